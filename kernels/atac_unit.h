// The arithmetic of the ATAC unit, y = x * sigmoid(BN2(W2 relu(BN1(W1 x)))), and of its gradients.
//
// As separate operators the unit moves about forty maps through memory in a training step, and memory traffic dominates
// its time: its arithmetic is a tenth of that of the convolutions around it. Here a piece of a sample that fits into the
// cache is taken all the way from one point where sums over the whole batch are needed to the next, and maps that are
// cheaper to recompute than to store are recomputed.
#ifndef KERNELS_ATAC_UNIT_H_
#define KERNELS_ATAC_UNIT_H_

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "pointwise.h"
#include "simd.h"
#include "threads.h"

namespace kernels {

struct AtacSize {
  int64_t samples, channels, width, positions;
  int64_t near = 16384;  // numbers of a piece of a map: all that is computed of it fits into a core's cache

  // Positions of a piece.
  int64_t piece() const {
    const int64_t fits = near / std::max(channels, width) / kAtOnce * kAtOnce;
    return std::max<int64_t>(1, std::min(positions, std::max(fits, kAtOnce)));
  }
  int64_t pieces_of_sample() const { return (positions + piece() - 1) / piece(); }
  int64_t pieces() const { return samples * pieces_of_sample(); }
  int64_t positions_of(int64_t index) const {
    return std::min(piece(), positions - index % pieces_of_sample() * piece());
  }
  double count() const { return static_cast<double>(samples) * positions; }

  // Whether W2's product is stored: each number of it takes as many multiply-adds as the unit is wide.
  bool keeps_logits() const { return width >= 32; }
  // Numbers that the gradient needs from the forward pass: W1 x, and those products.
  int64_t kept() const { return samples * positions * (width + (keeps_logits() ? channels : 0)); }
};

// A batch norm's numbers, by channel; `inverse` is 1 / standard deviation.
struct Norm {
  const float *mean, *inverse;
  std::vector<float> scale, shift;

  Norm(int64_t channels, const float* gamma, const float* beta, const float* mean, const float* inverse)
      : mean(mean), inverse(inverse), scale(channels), shift(channels) {
    for (int64_t c = 0; c < channels; ++c) {
      scale[c] = gamma[c] * inverse[c];
      shift[c] = beta[c] - mean[c] * scale[c];
    }
  }
};

// Two sums for each channel and piece, added up in this order, so that the result does not depend on the threads.
class Partials {
 public:
  Partials(int64_t pieces, int64_t channels) : channels_(channels), values_(pieces * 2 * channels) {}
  int64_t channels() const { return channels_; }
  float* first(int64_t piece) { return values_.data() + piece * 2 * channels_; }
  float* second(int64_t piece) { return first(piece) + channels_; }

 private:
  int64_t channels_;
  std::vector<float> values_;
};

// Sums over positions; `add(p, a, b)` adds what one contributes. There are four of each, so that an addition need not wait
// for the one before it. The vectors' type comes from `S`: deduced from an argument, it would ask for their alignment.
template <class S, class Add>
inline __attribute__((always_inline)) void add_up(int64_t positions, typename S::Floats* first,
                                                  typename S::Floats* second, Add add) {
  typename S::Floats a[4] = {}, b[4] = {};
  int64_t p = 0;
  for (; p + 4 <= positions; p += 4) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) add(p + k, &a[k], &b[k]);
  }
  for (; p < positions; ++p) add(p, &a[0], &b[0]);
  *first = (a[0] + a[1]) + (a[2] + a[3]);
  *second = (b[0] + b[1]) + (b[2] + b[3]);
}

// A piece's means and squared deviations from them.
template <int block, class From>
void moments(int64_t positions, From x, float* means, float* deviations) {
  typedef Simd<block> S;
  typedef typename S::Floats Floats;
  for (int64_t c = 0; c < x.channels; c += block) {
    Floats sum, squares, none;
    add_up<S>(positions, &sum, &none, [&](int64_t p, Floats* total, Floats*) { *total += S::load(x.at(c, p)); });
    const Floats mean = sum / S::all(positions);
    add_up<S>(positions, &squares, &none, [&](int64_t p, Floats* total, Floats*) {
      const Floats off = S::load(x.at(c, p)) - mean;
      *total += off * off;
    });
    S::store(means + c, mean);
    S::store(deviations + c, squares);
  }
}

// The batch's mean and 1 / standard deviation from the moments of its pieces.
inline void combine(const AtacSize& size, Partials& parts, double epsilon, float* mean, float* inverse) {
  for (int64_t c = 0; c < parts.channels(); ++c) {
    double total = 0, squares = 0;
    for (int64_t k = 0; k < size.pieces(); ++k) total += static_cast<double>(parts.first(k)[c]) * size.positions_of(k);
    const double middle = total / size.count();
    for (int64_t k = 0; k < size.pieces(); ++k) {
      const double off = parts.first(k)[c] - middle;
      squares += parts.second(k)[c] + off * off * size.positions_of(k);
    }
    mean[c] = static_cast<float>(middle);
    inverse[c] = static_cast<float>(1 / std::sqrt(squares / size.count() + epsilon));
  }
}

inline void total(const AtacSize& size, Partials& parts, float* first, float* second) {
  for (int64_t c = 0; c < parts.channels(); ++c) {
    double a = 0, b = 0;
    for (int64_t k = 0; k < size.pieces(); ++k) a += parts.first(k)[c], b += parts.second(k)[c];
    first[c] = static_cast<float>(a);
    second[c] = static_cast<float>(b);
  }
}

inline std::vector<float> transposed(const float* matrix, int64_t rows, int64_t columns) {
  std::vector<float> turned(rows * columns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
  }
  return turned;
}

// The sum of matrices of so many numbers, whose rows lie `apart`.
inline std::vector<float> added(const std::vector<float>& matrices, int64_t numbers, int64_t rows, int64_t columns,
                                int64_t apart) {
  std::vector<float> sums(rows * columns);
  for (size_t first = 0; first < matrices.size(); first += numbers) {
    for (int64_t at = 0; at < rows * columns; ++at) sums[at] += matrices[first + at / columns * apart + at % columns];
  }
  return sums;
}

// The unit for maps in blocks of `wide` channels, of `narrow` ones inside; bfloat16 maps lie by position. What is kept for
// the gradient is of the maps' numbers, and lies as they do. All else is float32: what a sum is taken of is in a thread's
// scratch memory.
template <class Number, class Scratch, int wide, int narrow>
class AtacUnit {
 public:
  AtacUnit(const AtacSize& size, bool relu, const Number* x, const float* weight1, const float* weight2)
      : size_(size), relu_(relu), x_(x), weight1_(weight1, size.width, size.channels),
        weight2_(weight2, size.channels, size.width),
        turned1_(transposed(weight1, size.width, size.channels).data(), size.channels, size.width),
        turned2_(transposed(weight2, size.channels, size.width).data(), size.width, size.channels) {
    size_.near = Scratch::kNear;
  }

  // With the batch's statistics, which are left in `mean1` and so on; `kept` is for the gradient.
  void train(double epsilon, const float* gamma1, const float* beta1, const float* gamma2, const float* beta2,
             Number* kept, float* mean1, float* inverse1, float* mean2, float* inverse2, Number* y) const {
    Partials narrow_parts(size_.pieces(), size_.width), wide_parts(size_.pieces(), size_.channels);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      const auto squeezed = narrow_piece(kept, k);
      squeeze(k, count, scratch, squeezed);
      moments<narrow>(count, squeezed, narrow_parts.first(k), narrow_parts.second(k));
    });
    combine(size_, narrow_parts, epsilon, mean1, inverse1);
    const Norm norm1(size_.width, gamma1, beta1, mean1, inverse1);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      activate(count, narrow_piece<const Number>(kept, k), norm1, scratch);
      const auto measure = [&](auto logits) {
        expand(count, scratch, logits);
        moments<wide>(count, logits, wide_parts.first(k), wide_parts.second(k));
      };
      size_.keeps_logits() ? measure(wide_piece(kept_logits(kept), k)) : measure(scratch.logits);
    });
    combine(size_, wide_parts, epsilon, mean2, inverse2);
    const Norm norm2(size_.channels, gamma2, beta2, mean2, inverse2);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      with_logits(k, count, kept, norm1, scratch, [&](auto logits) { gate(k, count, logits, norm2, y); });
    });
  }

  // With running statistics.
  void infer(const Norm& norm1, const Norm& norm2, Number* y) const {
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      squeeze(k, count, scratch, scratch.squeezed);
      activate(count, scratch.squeezed, norm1, scratch);
      expand(count, scratch, scratch.logits);
      gate(k, count, scratch.logits, norm2, y);
    });
  }

  struct Gradients {
    std::vector<float> weight1, gamma1, beta1, weight2, gamma2, beta2;
  };

  // Stores what `train` does, for a call with running statistics.
  void keep(const Norm& norm1, Number* kept) const {
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      squeeze(k, count, scratch, narrow_piece(kept, k));
      if (!size_.keeps_logits()) return;
      activate(count, narrow_piece<const Number>(kept, k), norm1, scratch);
      expand(count, scratch, wide_piece(kept_logits(kept), k));
    });
  }

  // `batch`: the norms' statistics are the batch's, and depend on x.
  Gradients backward(const Norm& norm1, const Norm& norm2, bool batch, const Number* kept, const Number* gradient,
                     Number* of_x) const {
    const std::vector<float> none(batch ? 0 : std::max(size_.width, size_.channels));
    const int64_t products = Scratch::products(size_.channels, size_.width);
    // A row for each thread; otherwise the sums would depend on their timing.
    std::vector<float> of_weight1(threads() * products), of_turned2(threads() * products);
    const std::unique_ptr<Number[]> of_normed(new Number[size_.samples * size_.width * size_.positions]);
    Partials narrow_parts(size_.pieces(), size_.width), wide_parts(size_.pieces(), size_.channels);
    Gradients result = {{}, std::vector<float>(size_.width), std::vector<float>(size_.width),
                        {}, std::vector<float>(size_.channels), std::vector<float>(size_.channels)};

    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      with_logits(k, count, kept, norm1, scratch,
                  [&](auto logits) { gate_sums(k, count, logits, norm2, gradient, wide_parts); });
    });
    total(size_, wide_parts, result.beta2.data(), result.gamma2.data());
    const float* sums2 = batch ? result.beta2.data() : none.data();
    const float* alongs2 = batch ? result.gamma2.data() : none.data();

    for_pieces([&](int64_t k, int64_t count, int thread, const Scratch& scratch) {
      const auto squeezed = narrow_piece(kept, k);
      activate(count, squeezed, norm1, scratch);
      const auto through_gate = [&](auto logits) {
        gate_backward(k, count, logits, norm2, gradient, sums2, alongs2, of_x, scratch.of_logits);
      };
      if (size_.keeps_logits()) {
        through_gate(wide_piece(kept_logits(kept), k));
      } else {
        expand(count, scratch, scratch.logits);
        through_gate(scratch.logits);
      }
      scratch.correlate(count, scratch.hidden, scratch.of_logits, &of_turned2[thread * products]);
      const auto d = narrow_piece(of_normed.get(), k);
      scratch.template project<wide, narrow>(count, scratch.of_logits, weight2_, d);
      activate_backward(k, count, scratch.hidden, squeezed, norm1, d, narrow_parts);
    });
    total(size_, narrow_parts, result.beta1.data(), result.gamma1.data());
    const float* sums1 = batch ? result.beta1.data() : none.data();
    const float* alongs1 = batch ? result.gamma1.data() : none.data();

    for_pieces([&](int64_t k, int64_t count, int thread, const Scratch& scratch) {
      norm_backward(count, narrow_piece(kept, k), narrow_piece<const Number>(of_normed.get(), k), norm1, sums1, alongs1,
                    scratch.other);
      scratch.correlate(count, scratch.other, wide_piece(x_, k), &of_weight1[thread * products]);
      scratch.template project<narrow, wide>(count, scratch.other, weight1_, wide_piece(of_x, k), true);
    });
    const int64_t row = Scratch::row(size_.channels);
    result.weight1 = added(of_weight1, products, size_.width, size_.channels, row);
    const std::vector<float> turned2 = added(of_turned2, products, size_.width, size_.channels, row);
    result.weight2 = transposed(turned2.data(), size_.width, size_.channels);
    return result;
  }

 private:
  typedef Simd<wide> W;
  typedef Simd<narrow> N;
  typedef typename W::Floats Wide;
  typedef typename N::Floats Narrow;

  // Calls `body(piece, its positions, thread, scratch)` for all pieces.
  template <class Body>
  void for_pieces(Body body) const {
#pragma omp parallel num_threads(threads())
    {
      const Scratch scratch(size_.channels, size_.width, size_.piece());
#pragma omp for schedule(static)
      for (int64_t k = 0; k < size_.pieces(); ++k) body(k, size_.positions_of(k), omp_get_thread_num(), scratch);
    }
  }

  template <int block, class Any>
  Piece<Any, block> piece(Any* map, int64_t channels, int64_t index) const {
    const int64_t of_sample = size_.pieces_of_sample();
    return Piece<Any, block>::of(map, channels, size_.positions, index / of_sample, index % of_sample * size_.piece());
  }
  template <class Any>
  Piece<Any, wide> wide_piece(Any* map, int64_t index) const {
    return piece<wide>(map, size_.channels, index);
  }
  template <class Any>
  Piece<Any, narrow> narrow_piece(Any* map, int64_t index) const {
    return piece<narrow>(map, size_.width, index);
  }
  template <class Any>
  Any* kept_logits(Any* kept) const {
    return kept + size_.samples * size_.width * size_.positions;
  }
  // W1 x
  template <class To>
  void squeeze(int64_t k, int64_t count, const Scratch& scratch, To squeezed) const {
    scratch.template project<wide, narrow>(count, scratch.rows(count, wide_piece(x_, k)), turned1_, squeezed);
  }

  // relu(BN1(squeezed))
  template <class From>
  void activate(int64_t count, From squeezed, const Norm& norm, const Scratch& scratch) const {
    for (int64_t c = 0; c < size_.width; c += narrow) {
      const Narrow scale = N::load(&norm.scale[c]), shift = N::load(&norm.shift[c]);
      for (int64_t p = 0; p < count; ++p) {
        const Narrow value = N::load(squeezed.at(c, p)) * scale + shift;
        N::store(scratch.hidden.at(c, p), relu_ ? (value < N::all(0) ? N::all(0) : value) : value);
      }
    }
  }

  // W2 hidden
  template <class To>
  void expand(int64_t count, const Scratch& scratch, To logits) const {
    scratch.template project<narrow, wide>(count, scratch.hidden, turned2_, logits);
  }

  // Calls `body` with what was kept of W2 hidden, or with the same computed again.
  template <class Body>
  void with_logits(int64_t k, int64_t count, const Number* kept, const Norm& norm1, const Scratch& scratch,
                   Body body) const {
    if (size_.keeps_logits()) return body(wide_piece(kept_logits(kept), k));
    activate(count, narrow_piece(kept, k), norm1, scratch);
    expand(count, scratch, scratch.logits);
    body(scratch.logits);
  }

  // As accurate as the maps are.
  static Wide sigmoid(Wide x) {
    if constexpr (std::is_same<Number, float>::value) {
      return W::sigmoid(x);
    } else {
      return W::rough_sigmoid(x);
    }
  }

  // x * sigmoid(BN2(logits))
  template <class From>
  void gate(int64_t k, int64_t count, From logits, const Norm& norm, Number* y) const {
    const auto x = wide_piece(x_, k);
    const auto to = wide_piece(y, k);
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      for (int64_t p = 0; p < count; ++p) {
        W::store(to.at(c, p), W::load(x.at(c, p)) * sigmoid(W::load(logits.at(c, p)) * scale + shift));
      }
    }
  }

  // The sums over the batch that BN2's gradient needs, of d and of d times the normalised logits, d being the gradient
  // of BN2's output.
  template <class From>
  void gate_sums(int64_t k, int64_t count, From logits, const Norm& norm, const Number* gradient,
                 Partials& parts) const {
    const auto x = wide_piece(x_, k), above = wide_piece(gradient, k);
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      const Wide mean = W::load(norm.mean + c), inverse = W::load(norm.inverse + c);
      Wide sum = {}, along = {};
      for (int64_t p = 0; p < count; ++p) {
        const Wide logit = W::load(logits.at(c, p)), s = sigmoid(logit * scale + shift);
        const Wide d = W::load(above.at(c, p)) * W::load(x.at(c, p)) * (s - s * s);
        sum += d;
        along += d * (logit - mean);
      }
      W::store(parts.first(k) + c, sum);
      W::store(parts.second(k) + c, along * inverse);
    }
  }

  // The gradient of the logits, and x's by way of the product.
  template <class From>
  void gate_backward(int64_t k, int64_t count, From logits, const Norm& norm, const Number* gradient,
                     const float* sums, const float* alongs, Number* of_x, decltype(Scratch::of_logits) of_logits) const {
    const float inverse_count = static_cast<float>(1 / size_.count());
    const auto x = wide_piece(x_, k), above = wide_piece(gradient, k);
    const auto to = wide_piece(of_x, k);
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      const Wide mean = W::load(norm.mean + c), inverse = W::load(norm.inverse + c);
      const Wide sum = W::load(sums + c) * inverse_count, along = W::load(alongs + c) * inverse_count * inverse;
      for (int64_t p = 0; p < count; ++p) {
        const Wide logit = W::load(logits.at(c, p)), s = sigmoid(logit * scale + shift);
        const Wide g = W::load(above.at(c, p)), d = g * W::load(x.at(c, p)) * (s - s * s);
        W::store(to.at(c, p), g * s);
        W::store(of_logits.at(c, p), scale * (d - sum - (logit - mean) * along));
      }
    }
  }

  // Through the ReLU, in place, with the sums that BN1's gradient needs.
  void activate_backward(int64_t k, int64_t count, decltype(Scratch::hidden) hidden, Piece<const Number, narrow> squeezed,
                         const Norm& norm, Piece<Number, narrow> d,
                         Partials& parts) const {
    for (int64_t c = 0; c < size_.width; c += narrow) {
      const Narrow mean = N::load(norm.mean + c), inverse = N::load(norm.inverse + c);
      Narrow sum, along;
      add_up<N>(count, &sum, &along, [&](int64_t p, Narrow* total, Narrow* total_along) {
        Narrow value = N::load(d.at(c, p));
        if (relu_) value = N::load(hidden.at(c, p)) > N::all(0) ? value : N::all(0);
        N::store(d.at(c, p), value);
        *total += value;
        *total_along += value * (N::load(squeezed.at(c, p)) - mean);
      });
      N::store(parts.first(k) + c, sum);
      N::store(parts.second(k) + c, along * inverse);
    }
  }

  // The gradient of BN1's input.
  void norm_backward(int64_t count, Piece<const Number, narrow> squeezed, Piece<const Number, narrow> gradient,
                     const Norm& norm, const float* sums, const float* alongs, decltype(Scratch::other) to) const {
    const float inverse_count = static_cast<float>(1 / size_.count());
    for (int64_t c = 0; c < size_.width; c += narrow) {
      const Narrow scale = N::load(&norm.scale[c]), mean = N::load(norm.mean + c), inverse = N::load(norm.inverse + c);
      const Narrow sum = N::load(sums + c) * inverse_count, along = N::load(alongs + c) * inverse_count * inverse;
      for (int64_t p = 0; p < count; ++p) {
        const Narrow off = N::load(squeezed.at(c, p)) - mean;
        N::store(to.at(c, p), scale * (N::load(gradient.at(c, p)) - sum - off * along));
      }
    }
  }

  AtacSize size_;
  bool relu_;
  const Number* x_;
  const typename Scratch::Weights weight1_, weight2_, turned1_, turned2_;
};

}  // namespace kernels

#endif  // KERNELS_ATAC_UNIT_H_
