// The SGE unit as one operator, `_sge`, with its gradient: y = x sigmoid(weight q + bias), where q is t over space with mean
// 0 and deviation 1, and t the product of each position with the mean of its group.
//
// Inputs: x (N, C, H, W), weight (1, G, 1, 1), bias (1, G, 1, 1). Outputs: y; means of x, means of t and its variance
// (3, N, C), the latter two with the same number for all channels of a group. Argument: the floor of the variance is
// 1e-12, and `epsilon` is added to the deviation.
//
// A group of channels of one sample depends on nothing else. It is small enough for a core's cache, or nearly: all of the
// arithmetic is done on it before the next one is read. The channels of a group lie in blocks of their own, or a block
// holds several groups; either way every channel has the numbers of its group in its own lane.
#ifndef KERNELS_SGE_H_
#define KERNELS_SGE_H_

#include <array>
#include <cmath>

#include "channels.h"
#include "fused.h"

namespace kernels {

constexpr double kLeastVariance = 1e-12;

typedef std::array<float*, 3> Rooms;  // of a thread, for a number per position and lane

// Several blocks that form one group, or one block of several groups, at all positions of a sample.
template <int lanes>
class SgePart {
 public:
  typedef Simd<lanes> S;
  typedef typename S::Floats Floats;

  // `size`: channels of a group. `weight` and `bias` are by channel.
  SgePart(int64_t size, int64_t positions, float epsilon, Floats weight, Floats bias)
      : size_(size), blocks_(std::max<int64_t>(1, size / lanes)), positions_(positions), epsilon_(epsilon),
        weight_(weight), bias_(bias) {}

  int64_t channels() const { return blocks_ * lanes; }

  // Leaves the means of x, and of t and its variance, by channel; `t` has room for a number per position and lane.
  void forward(const float* x, float* t, float* means, float* centres, float* variances, float* y) const {
    for (int64_t b = 0; b < blocks_; ++b) S::store(means + b * lanes, average(x + b * positions_ * lanes));
    measure(x, means, t);
    const Floats centre = average(t);
    Floats squares = {};
    for (int64_t p = 0; p < positions_; ++p) {
      const Floats off = S::load(t + p * lanes) - centre;
      squares += off * off;
    }
    const Floats variance = squares / S::all(freedom());
    for (int64_t b = 0; b < blocks_; ++b) {
      S::store(centres + b * lanes, centre);
      S::store(variances + b * lanes, variance);
    }
    const Scales scales(*this, centre, variance);
    for (int64_t p = 0; p < positions_; ++p) {
      const Floats gate = S::sigmoid(weight_ * scales.normed(t, p) + bias_);
      for (int64_t b = 0; b < blocks_; ++b) {
        const int64_t at = (b * positions_ + p) * lanes;
        S::store(y + at, S::load(x + at) * gate);
      }
    }
  }

  // The gradients of x, and by channel those of weight and bias; `t`, `gates` and `work` have room as above.
  void backward(const float* x, const float* gradient, const float* means, Floats centre, Floats variance, float* t,
                float* gates, float* work, float* of_x, float* of_weight, float* of_bias) const {
    measure(x, means, t);
    const Scales scales(*this, centre, variance);
    Floats sum = {}, along = {};
    for (int64_t p = 0; p < positions_; ++p) {
      Floats of_gate = {};
      for (int64_t b = 0; b < blocks_; ++b) {
        const int64_t at = (b * positions_ + p) * lanes;
        of_gate += S::load(x + at) * S::load(gradient + at);
      }
      const Floats q = scales.normed(t, p), gate = S::sigmoid(weight_ * q + bias_);
      const Floats of_logit = over_group(of_gate) * gate * (1.0f - gate);
      S::store(gates + p * lanes, gate);
      S::store(work + p * lanes, of_logit);
      sum += of_logit;
      along += of_logit * q;
    }
    S::store(of_weight, along);
    S::store(of_bias, sum);
    // t's gradient, which replaces that of the logit; its own mean is removed with t's mean.
    const Floats mean = sum / S::all(positions_), by_q = along * scales.root_share / S::all(freedom());
    for (int64_t p = 0; p < positions_; ++p) {
      const Floats of_t = weight_ * scales.inverse * (S::load(work + p * lanes) - mean - by_q * scales.normed(t, p));
      S::store(work + p * lanes, of_t);
    }
    for (int64_t b = 0; b < blocks_; ++b) {
      const float *from = x + b * positions_ * lanes, *above = gradient + b * positions_ * lanes;
      float* to = of_x + b * positions_ * lanes;
      const Floats share = average(from, work), factor = S::load(means + b * lanes);
      for (int64_t p = 0; p < positions_; ++p) {
        const Floats of_t = S::load(work + p * lanes);
        S::store(to + p * lanes, S::load(above + p * lanes) * S::load(gates + p * lanes) + (of_t * factor + share));
      }
    }
  }

 private:
  // What turns t into q.
  struct Scales {
    Floats centre, inverse, root_share;

    Scales(const SgePart& part, Floats centre, Floats variance) : centre(centre) {
      for (int lane = 0; lane < lanes; ++lane) {
        const double root = std::sqrt(std::max<double>(variance[lane], kLeastVariance));
        const double deviation = root + part.epsilon_;
        inverse[lane] = static_cast<float>(1 / deviation);
        // How much of the deviation depends on t: 0 at the floor.
        root_share[lane] = variance[lane] < kLeastVariance ? 0.0f : static_cast<float>(deviation / root);
      }
    }
    Floats normed(const float* t, int64_t p) const { return (S::load(t + p * lanes) - centre) * inverse; }
  };

  float freedom() const { return static_cast<float>(std::max<int64_t>(positions_ - 1, 1)); }

  // The mean of x, or of x times a factor, over space.
  Floats average(const float* x, const float* factor = nullptr) const {
    Floats total = {};
    for (int64_t first = 0; first < positions_; first += kPiece) {
      const int64_t last = std::min(first + kPiece, positions_);
      Floats piece = {};
      for (int64_t p = first; p < last; ++p) {
        piece += factor ? S::load(x + p * lanes) * S::load(factor + p * lanes) : S::load(x + p * lanes);
      }
      total += piece;
    }
    return total / S::all(positions_);
  }

  // The sum over the lanes of each group, in all of them.
  Floats over_group(Floats values) const {
    typedef typename S::Integers Integers;
    Integers lane;
    for (int k = 0; k < lanes; ++k) lane[k] = k;
    for (int64_t step = 1; step < std::min<int64_t>(size_, lanes); step *= 2) {
      values += __builtin_shuffle(values, lane ^ static_cast<int32_t>(step));
    }
    return values;
  }

  void measure(const float* x, const float* means, float* t) const {
    for (int64_t p = 0; p < positions_; ++p) {
      Floats sum = {};
      for (int64_t b = 0; b < blocks_; ++b) {
        sum += S::load(x + (b * positions_ + p) * lanes) * S::load(means + b * lanes);
      }
      S::store(t + p * lanes, over_group(sum));
    }
  }

  const int64_t size_, blocks_, positions_;
  const float epsilon_;
  const Floats weight_, bias_;
};

// A call of the operator: sizes, and the layout that it computes in.
struct SgeCall {
  int64_t samples, channels, positions, groups, size;
  float epsilon;
  int block;

  SgeCall(const NodeAttrs& attrs, const NDArray& x, int64_t groups)
      : samples(x.shape()[0]), channels(x.shape()[1]), positions(x.shape()[2] * x.shape()[3]), groups(groups),
        size(channels / groups), epsilon(static_cast<float>(std::atof(argument(attrs, "epsilon", "1e-5").c_str()))),
        block(MapInput::own(x)) {
    if (block % size != 0 && size % block != 0) block = kPlain;
  }

  // Calls `body(part, place in the maps, place in (N, C), three rooms)` for all parts, on all threads.
  template <int lanes, class Body>
  void for_parts(const float* weight, const float* bias, Body body) const {
    const int64_t wide = std::max<int64_t>(lanes, size), parts = samples * channels / wide;
#pragma omp parallel num_threads(threads())
    {
      std::vector<float> memory(3 * positions * lanes);
#pragma omp for schedule(static)
      for (int64_t k = 0; k < parts; ++k) {
        typename Simd<lanes>::Floats weights, biases;
        for (int lane = 0; lane < lanes; ++lane) {
          const int64_t group = (k * wide % channels + lane) / size;
          weights[lane] = weight[group], biases[lane] = bias[group];
        }
        body(SgePart<lanes>(size, positions, epsilon, weights, biases), k * wide * positions, k * wide,
             Rooms{memory.data(), memory.data() + positions * lanes, memory.data() + 2 * positions * lanes});
      }
    }
  }
};

inline void sge(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sge", arrays, outputs);
  const SgeCall call(attrs, inputs[0], inputs[1].shape()[1]);
  const MapInput x(inputs[0], call.block);
  const RowInput weight(inputs[1]), bias(inputs[2]);
  const int64_t rows = call.samples * call.channels;
  std::vector<float> kept(3 * rows);
  MapResult y(outputs[0], requests[0], call.block);
  float *means = kept.data(), *centres = means + rows, *variances = centres + rows, *to = y.data();
  with_block(call.block, [&](auto known) {
    call.for_parts<decltype(known)::value>(
        weight.data, bias.data, [&](const auto& part, int64_t map, int64_t row, const Rooms& rooms) {
          part.forward(x.data + map, rooms[0], means + row, centres + row, variances + row, to + map);
        });
  });
  y.deliver();
  deliver(kept, outputs[1], requests[1]);
}

// (gradient, x, weight, bias, what was kept) -> gradients of x, weight, bias
inline void sge_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                         const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sge", arrays, outputs);
  const SgeCall call(attrs, inputs[1], inputs[2].shape()[1]);
  const MapInput x(inputs[1], call.block), gradient(inputs[0], call.block);
  const RowInput weight(inputs[2]), bias(inputs[3]), kept(inputs[4]);
  const int64_t rows = call.samples * call.channels;
  std::vector<float> by_weight(rows), by_bias(rows);
  MapResult of_x(outputs[0], requests[0], call.block);
  const float *means = kept.data, *centres = means + rows, *variances = centres + rows;
  float* to = of_x.data();
  with_block(call.block, [&](auto known) {
    typedef Simd<decltype(known)::value> S;
    call.for_parts<decltype(known)::value>(
        weight.data, bias.data, [&](const auto& part, int64_t map, int64_t row, const Rooms& rooms) {
          part.backward(x.data + map, gradient.data + map, means + row, S::load(centres + row),
                        S::load(variances + row), rooms[0], rooms[1], rooms[2], to + map, &by_weight[row], &by_bias[row]);
        });
  });
  of_x.deliver();
  std::vector<float> of_weight(call.groups), of_bias(call.groups);
  for (int64_t group = 0; group < call.groups; ++group) {
    double first = 0, second = 0;
    for (int64_t n = 0; n < call.samples; ++n) {
      const int64_t row = n * call.channels + group * call.size;  // the first channel of the group
      first += by_weight[row], second += by_bias[row];
    }
    of_weight[group] = static_cast<float>(first), of_bias[group] = static_cast<float>(second);
  }
  deliver(of_weight, outputs[1], requests[1]);
  deliver(of_bias, outputs[2], requests[2]);
}

inline bool sge_shapes(const NodeAttrs& attrs, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_sge: x is (N, C, H, W)";
  const int64_t groups = std::atoi(argument(attrs, "groups", "1").c_str());
  CHECK(groups > 0 && map[1] % groups == 0) << "_sge: " << groups << " groups of " << map[1] << " channels";
  take_shapes("_sge", {map, mxnet::TShape({1, groups, 1, 1}), mxnet::TShape({1, groups, 1, 1})}, inputs);
  *outputs = {map, mxnet::TShape({3, map[0], map[1]})};
  return true;
}

inline void register_sge() {
  register_fused({"_sge", {"x", "weight", "bias"}, {"groups", "epsilon"}, 2, 1, {0, 1, 2}, {1}, {}, false,
                  InferShape::make<sge_shapes>(), sge, sge_backward});
}

}  // namespace kernels

#endif  // KERNELS_SGE_H_
