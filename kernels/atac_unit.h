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

  // Positions of a piece: its maps fit into a core's cache.
  int64_t piece() const {
    const int64_t fits = 16384 / std::max(channels, width) / kAtOnce * kAtOnce;
    return std::max<int64_t>(1, std::min(positions, std::max(fits, kAtOnce)));
  }
  int64_t pieces_of_sample() const { return (positions + piece() - 1) / piece(); }
  int64_t pieces() const { return samples * pieces_of_sample(); }
  int64_t positions_of(int64_t index) const {
    return std::min(piece(), positions - index % pieces_of_sample() * piece());
  }
  double count() const { return static_cast<double>(samples) * positions; }

  // Whether W2's product is stored: each number of it takes as many multiply-adds as the unit is wide.
  bool keeps_logits() const { return width >= 16; }
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

// A piece's means and squared deviations from them.
template <int block>
void moments(int64_t positions, Piece<const float> x, float* means, float* deviations) {
  typedef Simd<block> S;
  for (int64_t c = 0; c < x.channels; c += block) {
    const float* data = x.data + c * x.stride;
    typename S::Floats sum = {}, squares = {};
    for (int64_t p = 0; p < positions; ++p) sum += S::load(data + p * block);
    const typename S::Floats mean = sum / S::all(positions);
    for (int64_t p = 0; p < positions; ++p) {
      const typename S::Floats off = S::load(data + p * block) - mean;
      squares += off * off;
    }
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

// The unit for maps in blocks: of `wide` channels for its input, of `narrow` ones inside.
template <int wide, int narrow>
class AtacUnit {
 public:
  AtacUnit(const AtacSize& size, bool relu, const float* x, const float* weight1, const float* weight2)
      : size_(size), relu_(relu), x_(x), weight1_(weight1), weight2_(weight2),
        turned1_(transposed(weight1, size.width, size.channels)),
        turned2_(transposed(weight2, size.channels, size.width)) {}

  // With the batch's statistics, which are left in `mean1` and so on; `kept` is for the gradient.
  void train(double epsilon, const float* gamma1, const float* beta1, const float* gamma2, const float* beta2,
             float* kept, float* mean1, float* inverse1, float* mean2, float* inverse2, float* y) const {
    Partials narrow_parts(size_.pieces(), size_.width), wide_parts(size_.pieces(), size_.channels);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch&) {
      const Piece<float> squeezed = narrow_piece(kept, k);
      squeeze(k, count, squeezed);
      moments<narrow>(count, read(squeezed), narrow_parts.first(k), narrow_parts.second(k));
    });
    combine(size_, narrow_parts, epsilon, mean1, inverse1);
    const Norm norm1(size_.width, gamma1, beta1, mean1, inverse1);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      const Piece<float> logits = size_.keeps_logits() ? wide_piece(kept_logits(kept), k) : scratch.logits;
      activate(count, narrow_piece<const float>(kept, k), norm1, scratch.hidden);
      expand(count, scratch.hidden, logits);
      moments<wide>(count, read(logits), wide_parts.first(k), wide_parts.second(k));
    });
    combine(size_, wide_parts, epsilon, mean2, inverse2);
    const Norm norm2(size_.channels, gamma2, beta2, mean2, inverse2);
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      gate(k, count, logits_again(k, count, kept, norm1, scratch), norm2, y);
    });
  }

  // With running statistics.
  void infer(const Norm& norm1, const Norm& norm2, float* y) const {
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      squeeze(k, count, scratch.other);
      activate(count, read(scratch.other), norm1, scratch.hidden);
      expand(count, scratch.hidden, scratch.logits);
      gate(k, count, read(scratch.logits), norm2, y);
    });
  }

  struct Gradients {
    std::vector<float> weight1, gamma1, beta1, weight2, gamma2, beta2;
  };

  // Stores what `train` does, for a call with running statistics.
  void keep(const Norm& norm1, float* kept) const {
    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      squeeze(k, count, narrow_piece(kept, k));
      if (!size_.keeps_logits()) return;
      activate(count, narrow_piece<const float>(kept, k), norm1, scratch.hidden);
      expand(count, scratch.hidden, wide_piece(kept_logits(kept), k));
    });
  }

  // `batch`: the norms' statistics are the batch's, and depend on x.
  Gradients backward(const Norm& norm1, const Norm& norm2, bool batch, const float* kept, const float* gradient,
                     float* of_x) const {
    const std::vector<float> none(batch ? 0 : std::max(size_.width, size_.channels));
    const int64_t weights = size_.channels * size_.width;
    const int rows = threads();
    // A row for each thread; otherwise the sums would depend on their timing.
    std::vector<float> of_weight1(rows * weights), of_weight2(rows * weights);
    const std::unique_ptr<float[]> of_normed(new float[size_.samples * size_.width * size_.positions]);
    Partials narrow_parts(size_.pieces(), size_.width), wide_parts(size_.pieces(), size_.channels);
    Gradients result = {std::vector<float>(weights), std::vector<float>(size_.width),
                        std::vector<float>(size_.width), std::vector<float>(weights),
                        std::vector<float>(size_.channels), std::vector<float>(size_.channels)};

    for_pieces([&](int64_t k, int64_t count, int, const Scratch& scratch) {
      gate_sums(k, count, logits_again(k, count, kept, norm1, scratch), norm2, gradient, wide_parts);
    });
    total(size_, wide_parts, result.beta2.data(), result.gamma2.data());
    const float* sums2 = batch ? result.beta2.data() : none.data();
    const float* alongs2 = batch ? result.gamma2.data() : none.data();

    for_pieces([&](int64_t k, int64_t count, int thread, const Scratch& scratch) {
      const Piece<const float> squeezed = narrow_piece(kept, k);
      Piece<const float> logits = read(scratch.logits);
      activate(count, squeezed, norm1, scratch.hidden);
      if (size_.keeps_logits()) {
        logits = wide_piece(kept_logits(kept), k);
      } else {
        expand(count, scratch.hidden, scratch.logits);
      }
      gate_backward(k, count, logits, norm2, gradient, sums2, alongs2, of_x, scratch.logits);
      float* products = of_weight2.data() + thread * weights;
      if (wide > narrow) {  // the wider one into the lanes
        correlate<narrow, wide>(count, read(scratch.hidden), read(scratch.logits), products, 1, size_.width);
      } else {
        correlate<wide, narrow>(count, read(scratch.logits), read(scratch.hidden), products, size_.width, 1);
      }
      const Piece<float> d = narrow_piece(of_normed.get(), k);
      project<wide, narrow>(count, read(scratch.logits), weight2_, d);
      activate_backward(k, count, read(scratch.hidden), squeezed, norm1, d, narrow_parts);
    });
    total(size_, narrow_parts, result.beta1.data(), result.gamma1.data());
    const float* sums1 = batch ? result.beta1.data() : none.data();
    const float* alongs1 = batch ? result.gamma1.data() : none.data();

    for_pieces([&](int64_t k, int64_t count, int thread, const Scratch& scratch) {
      norm_backward<narrow>(count, narrow_piece(kept, k), read(narrow_piece(of_normed.get(), k)), norm1, sums1,
                            alongs1, scratch.other);
      correlate<narrow, wide>(count, read(scratch.other), wide_piece(x_, k), of_weight1.data() + thread * weights,
                              size_.channels, 1);
      project<narrow, wide>(count, read(scratch.other), weight1_, wide_piece(of_x, k), true);
    });
    for (int64_t at = 0; at < weights; ++at) {
      for (int thread = 0; thread < rows; ++thread) {
        result.weight1[at] += of_weight1[thread * weights + at];
        result.weight2[at] += of_weight2[thread * weights + at];
      }
    }
    return result;
  }

 private:
  typedef Simd<wide> W;
  typedef Simd<narrow> N;
  typedef typename W::Floats Wide;
  typedef typename N::Floats Narrow;

  // The buffers of one thread, for one piece.
  struct Scratch {
    Piece<float> hidden, other, logits;
  };

  // Calls `body(piece, its positions, thread, scratch)` for all pieces.
  template <class Body>
  void for_pieces(Body body) const {
    const int64_t stride = size_.piece();
#pragma omp parallel num_threads(threads())
    {
      const std::unique_ptr<float[]> memory(new float[stride * (2 * size_.width + size_.channels)]);
      float *hidden = memory.get(), *other = hidden + stride * size_.width, *logits = other + stride * size_.width;
      const Scratch scratch = {{hidden, size_.width, stride}, {other, size_.width, stride},
                               {logits, size_.channels, stride}};
#pragma omp for schedule(static)
      for (int64_t k = 0; k < size_.pieces(); ++k) body(k, size_.positions_of(k), omp_get_thread_num(), scratch);
    }
  }

  int64_t offset(int64_t piece, int64_t channels, int block) const {
    return piece / size_.pieces_of_sample() * channels * size_.positions +
           piece % size_.pieces_of_sample() * size_.piece() * block;
  }
  template <class Float>
  Piece<Float> wide_piece(Float* map, int64_t piece) const {
    return {map + offset(piece, size_.channels, wide), size_.channels, size_.positions};
  }
  template <class Float>
  Piece<Float> narrow_piece(Float* map, int64_t piece) const {
    return {map + offset(piece, size_.width, narrow), size_.width, size_.positions};
  }
  template <class Float>
  Float* kept_logits(Float* kept) const {
    return kept + size_.samples * size_.width * size_.positions;
  }
  static Piece<const float> read(Piece<float> piece) { return {piece.data, piece.channels, piece.stride}; }

  // W1 x
  void squeeze(int64_t k, int64_t count, Piece<float> squeezed) const {
    project<wide, narrow>(count, wide_piece(x_, k), turned1_.data(), squeezed);
  }

  // relu(BN1(squeezed))
  void activate(int64_t count, Piece<const float> squeezed, const Norm& norm, Piece<float> hidden) const {
    for (int64_t c = 0; c < size_.width; c += narrow) {
      const Narrow scale = N::load(&norm.scale[c]), shift = N::load(&norm.shift[c]);
      const float* from = squeezed.data + c * squeezed.stride;
      float* to = hidden.data + c * hidden.stride;
      for (int64_t p = 0; p < count; ++p) {
        const Narrow value = N::load(from + p * narrow) * scale + shift;
        N::store(to + p * narrow, relu_ ? (value < N::all(0) ? N::all(0) : value) : value);
      }
    }
  }

  // W2 hidden
  void expand(int64_t count, Piece<float> hidden, Piece<float> logits) const {
    project<narrow, wide>(count, read(hidden), turned2_.data(), logits);
  }

  Piece<const float> logits_again(int64_t k, int64_t count, const float* kept, const Norm& norm1,
                                  const Scratch& scratch) const {
    if (size_.keeps_logits()) return wide_piece(kept_logits(kept), k);
    activate(count, narrow_piece(kept, k), norm1, scratch.hidden);
    expand(count, scratch.hidden, scratch.logits);
    return read(scratch.logits);
  }

  // x * sigmoid(BN2(logits))
  void gate(int64_t k, int64_t count, Piece<const float> logits, const Norm& norm, float* y) const {
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      const float *from = logits.data + c * logits.stride, *x = wide_piece(x_, k).data + c * size_.positions;
      float* to = wide_piece(y, k).data + c * size_.positions;
      for (int64_t p = 0; p < count; ++p) {
        const Wide s = W::sigmoid(W::load(from + p * wide) * scale + shift);
        W::store(to + p * wide, W::load(x + p * wide) * s);
      }
    }
  }

  // The sums over the batch that BN2's gradient needs, of d and of d times the normalised logits, d being the gradient
  // of BN2's output.
  void gate_sums(int64_t k, int64_t count, Piece<const float> logits, const Norm& norm, const float* gradient,
                 Partials& parts) const {
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      const Wide mean = W::load(norm.mean + c), inverse = W::load(norm.inverse + c);
      const float *from = logits.data + c * logits.stride, *x = wide_piece(x_, k).data + c * size_.positions;
      const float* g = wide_piece(gradient, k).data + c * size_.positions;
      Wide sum = {}, along = {};
      for (int64_t p = 0; p < count; ++p) {
        const Wide logit = W::load(from + p * wide), s = W::sigmoid(logit * scale + shift);
        const Wide d = W::load(g + p * wide) * W::load(x + p * wide) * (s - s * s);
        sum += d;
        along += d * (logit - mean);
      }
      W::store(parts.first(k) + c, sum);
      W::store(parts.second(k) + c, along * inverse);
    }
  }

  // The gradient of the logits, and x's by way of the product.
  void gate_backward(int64_t k, int64_t count, Piece<const float> logits, const Norm& norm, const float* gradient,
                     const float* sums, const float* alongs, float* of_x, Piece<float> of_logits) const {
    const float inverse_count = static_cast<float>(1 / size_.count());
    for (int64_t c = 0; c < size_.channels; c += wide) {
      const Wide scale = W::load(&norm.scale[c]), shift = W::load(&norm.shift[c]);
      const Wide mean = W::load(norm.mean + c), inverse = W::load(norm.inverse + c);
      const Wide sum = W::load(sums + c) * inverse_count, along = W::load(alongs + c) * inverse_count * inverse;
      const float *from = logits.data + c * logits.stride, *x = wide_piece(x_, k).data + c * size_.positions;
      const float* g = wide_piece(gradient, k).data + c * size_.positions;
      float *to = wide_piece(of_x, k).data + c * size_.positions, *to_logits = of_logits.data + c * of_logits.stride;
      for (int64_t p = 0; p < count; ++p) {
        const Wide logit = W::load(from + p * wide), s = W::sigmoid(logit * scale + shift);
        const Wide above = W::load(g + p * wide), d = above * W::load(x + p * wide) * (s - s * s);
        W::store(to + p * wide, above * s);
        W::store(to_logits + p * wide, scale * (d - sum - (logit - mean) * along));
      }
    }
  }

  // Through the ReLU, in place, with the sums that BN1's gradient needs.
  void activate_backward(int64_t k, int64_t count, Piece<const float> hidden, Piece<const float> squeezed,
                         const Norm& norm, Piece<float> d, Partials& parts) const {
    for (int64_t c = 0; c < size_.width; c += narrow) {
      const Narrow mean = N::load(norm.mean + c), inverse = N::load(norm.inverse + c);
      const float *passed = hidden.data + c * hidden.stride, *from = squeezed.data + c * squeezed.stride;
      float* values = d.data + c * d.stride;
      Narrow sum = {}, along = {};
      for (int64_t p = 0; p < count; ++p) {
        Narrow value = N::load(values + p * narrow);
        if (relu_) value = N::load(passed + p * narrow) > N::all(0) ? value : N::all(0);
        N::store(values + p * narrow, value);
        sum += value;
        along += value * (N::load(from + p * narrow) - mean);
      }
      N::store(parts.first(k) + c, sum);
      N::store(parts.second(k) + c, along * inverse);
    }
  }

  // The gradient of a batch norm's input.
  template <int block>
  void norm_backward(int64_t count, Piece<const float> x, Piece<const float> gradient, const Norm& norm,
                     const float* sums, const float* alongs, Piece<float> of_x) const {
    typedef Simd<block> S;
    typedef typename S::Floats Lanes;
    const float inverse_count = static_cast<float>(1 / size_.count());
    for (int64_t c = 0; c < x.channels; c += block) {
      const Lanes scale = S::load(&norm.scale[c]), mean = S::load(norm.mean + c), inverse = S::load(norm.inverse + c);
      const Lanes sum = S::load(sums + c) * inverse_count, along = S::load(alongs + c) * inverse_count * inverse;
      for (int64_t p = 0; p < count; ++p) {
        const Lanes off = S::load(x.data + c * x.stride + p * block) - mean;
        const Lanes d = S::load(gradient.data + c * gradient.stride + p * block);
        S::store(of_x.data + c * of_x.stride + p * block, scale * (d - sum - off * along));
      }
    }
  }

  AtacSize size_;
  bool relu_;
  const float *x_, *weight1_, *weight2_;
  std::vector<float> turned1_, turned2_;
};

}  // namespace kernels

#endif  // KERNELS_ATAC_UNIT_H_
