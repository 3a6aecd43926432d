// A batch norm up to the ReLU behind it as two operators, `_norm_enter` and `_norm_leave`: y = relu(gate BN(x) + shortcut),
// where the gate, a factor for each channel and sample, and the shortcut may be absent.
//
// As separate operators these pass over the map eight times forwards and ten times backwards; here the normed map is never
// stored, and there are four and seven passes. `_norm_enter` reads x, for its moments, of which the normed map's means
// over space follow, which a gate is computed from. `_norm_leave` writes y. Backwards `_norm_leave` gives the gradient of
// the sum, which is the shortcut's, and its sums with x over space; `_norm_enter` needs nothing more to give that of x.
// What comes back between the two is thus not the gradient of what went forwards, and neither is used without the other.
//
// `_norm_enter`: x (N, C, H, W), gamma, beta, running mean, running variance -> x; means of the normed map (N, C);
// statistics (6 + 3 N, C), see `NormRows`; means of x (N, C). Arguments: eps, momentum, as MXNet's batch norm, whose
// running statistics change in the backward pass too.
// `_norm_leave...`: x, statistics, then the gate (N, C) and the shortcut if it has them -> y
#ifndef KERNELS_NORM_H_
#define KERNELS_NORM_H_

#include <cmath>

#include "channels.h"
#include "fused.h"
#include "simd.h"

namespace kernels {

constexpr int64_t kNormRows = 6;

// The rows of the statistics. Backwards they are those of `NormSums`.
struct NormRows {
  const float *scale, *shift, *mean, *inverse, *gamma, *beta;

  NormRows(const float* rows, int64_t channels)
      : scale(rows), shift(rows + channels), mean(rows + 2 * channels), inverse(rows + 3 * channels),
        gamma(rows + 4 * channels), beta(rows + 5 * channels) {}
};

// For each channel and sample: the gate, and the gate times the sums of the gradient, and of the gradient times the
// normed x, before scale and shift.
struct NormSums {
  const float *gate, *sum, *along;

  NormSums(const float* rows, int64_t numbers) : gate(rows), sum(rows + numbers), along(rows + 2 * numbers) {}
};

// The mean of a group's positions, and the sum of squared deviations from it: tile by tile, each of which is in the cache.
template <int lanes>
void moments_of(const float* x, int64_t positions, float* mean, float* squares) {
  typedef Simd<lanes> S;
  typename S::Floats middle = {}, total = {};
  for (int64_t first = 0; first < positions; first += kPiece) {
    const int64_t count = std::min(kPiece, positions - first);
    const float* from = x + first * lanes;
    typename S::Floats sum = {}, off_squares = {};
    for (int64_t p = 0; p < count; ++p) sum += S::load(from + p * lanes);
    const typename S::Floats own = sum / S::all(count);
    for (int64_t p = 0; p < count; ++p) {
      const typename S::Floats off = S::load(from + p * lanes) - own;
      off_squares += off * off;
    }
    const float share = static_cast<float>(count) / (first + count);
    const typename S::Floats apart = own - middle;
    middle += apart * share;
    total += off_squares + apart * apart * (share * first);
  }
  S::store(mean, middle);
  S::store(squares, total);
}

struct NormCall {
  int64_t samples, channels, positions;
  double epsilon;
  float momentum;

  NormCall(const NodeAttrs& attrs, const mxnet::TShape& map)
      : samples(map[0]), channels(map[1]), positions(map[2] * map[3]),
        epsilon(std::atof(argument(attrs, "eps", "1e-3").c_str())),
        momentum(static_cast<float>(std::atof(argument(attrs, "momentum", "0.9").c_str()))) {}
  double count() const { return static_cast<double>(samples) * positions; }

  // The batch's mean and variance of a channel from the moments of its samples.
  void combine(const std::vector<float>& means, const std::vector<float>& squares, int64_t c, double* mean,
               double* variance) const {
    double total = 0, off_squares = 0;
    for (int64_t n = 0; n < samples; ++n) total += means[n * channels + c];
    *mean = samples > 0 ? total / samples : 0;
    for (int64_t n = 0; n < samples; ++n) {
      const double off = means[n * channels + c] - *mean;
      off_squares += squares[n * channels + c] + off * off * positions;
    }
    *variance = count() > 0 ? off_squares / count() : 0;
  }
};

// Gives what follows of the samples' moments: all outputs but the map.
inline void deliver_norm(const NormCall& call, const OpContext& context, const Arrays& inputs,
                         const std::vector<float>& means, const std::vector<float>& squares, const Requests& requests,
                         const Arrays& outputs) {
  const RowInput gamma(inputs[1]), beta(inputs[2]), running_mean(inputs[3]), running_variance(inputs[4]);
  const int64_t channels = call.channels;
  std::vector<float> normed(means.size()), rows((kNormRows + 3 * call.samples) * channels);
  for (int64_t c = 0; c < channels; ++c) {
    double mean = running_mean.data[c], variance = running_variance.data[c];
    if (context.is_train) call.combine(means, squares, c, &mean, &variance);
    const float inverse = static_cast<float>(1 / std::sqrt(variance + call.epsilon));
    const float scale = gamma.data[c] * inverse, middle = static_cast<float>(mean);
    const float all[kNormRows] = {scale, beta.data[c] - middle * scale, middle, inverse, gamma.data[c], beta.data[c]};
    for (int64_t k = 0; k < kNormRows; ++k) rows[k * channels + c] = all[k];
    for (int64_t n = 0; n < call.samples; ++n) {
      normed[n * channels + c] = (means[n * channels + c] - middle) * scale + beta.data[c];
    }
  }
  deliver(normed, outputs[1], requests[1]);
  deliver(rows, outputs[2], requests[2]);
  deliver(means, outputs[3], requests[3]);
}

inline void norm_enter(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays,
                       const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_enter", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const NormCall call(attrs, shape);
  const MapInput x(inputs[0]);
  std::vector<float> means(call.samples * call.channels), squares(means.size());
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      moments_of<lanes>(x.data + map, call.positions, &means[row], &squares[row]);
    });
  });
  deliver_norm(call, context, inputs, means, squares, requests, outputs);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

// What x's gradient is made of: d of_d + (x - mean) of_x + shift, by channel and sample.
struct NormGradient {
  std::vector<float> of_gamma, of_beta, of_d, of_x, shift;

  NormGradient(const NormCall& call, bool batch, const NormRows& rows, const NormSums& sums, const float* of_means,
               const float* means)
      : of_gamma(call.channels), of_beta(call.channels), of_d(call.samples * call.channels), of_x(call.channels),
        shift(call.samples * call.channels) {
    for (int64_t c = 0; c < call.channels; ++c) {
      double sum = 0, along = 0;
      for (int64_t n = 0; n < call.samples; ++n) {
        const int64_t k = n * call.channels + c;
        sum += static_cast<double>(sums.sum[k]) + of_means[k];
        along += sums.along[k] + static_cast<double>(of_means[k]) * (means[k] - rows.mean[c]) * rows.inverse[c];
      }
      of_gamma[c] = static_cast<float>(along);
      of_beta[c] = static_cast<float>(sum);
      of_x[c] = batch ? static_cast<float>(-along / call.count() * rows.inverse[c] * rows.scale[c]) : 0;
      for (int64_t n = 0; n < call.samples; ++n) {
        const int64_t k = n * call.channels + c;
        of_d[k] = sums.gate[k] * rows.scale[c];
        const double constant = of_means[k] / static_cast<double>(call.positions) - (batch ? sum / call.count() : 0);
        shift[k] = static_cast<float>(constant * rows.scale[c]);
      }
    }
  }
};

inline void follow(const NormCall& call, const NormRows& rows, const NDArray& mean, const NDArray& variance) {
  float *means = pointer(mean), *variances = pointer(variance);
  for (int64_t c = 0; c < call.channels; ++c) {
    const double deviation = 1.0 / rows.inverse[c];
    const float of_batch = static_cast<float>(deviation * deviation - call.epsilon);
    means[c] = means[c] * call.momentum + rows.mean[c] * (1 - call.momentum);
    variances[c] = variances[c] * call.momentum + of_batch * (1 - call.momentum);
  }
}

// (d: the gradient of the sum, gradient of the means, sums, x, statistics, means of x, running mean and variance) ->
// gradients of x, gamma, beta
inline void norm_enter_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays,
                                const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_enter", arrays, outputs);
  const mxnet::TShape& shape = inputs[3].shape();
  const NormCall call(attrs, shape);
  const MapInput x(inputs[3]), d(inputs[0], x.block);
  const RowInput of_means(inputs[1]), sums(inputs[2]), statistics(inputs[4]), means(inputs[5]);
  const NormRows rows(statistics.data, call.channels);
  const NormGradient gradient(call, context.is_train, rows, NormSums(sums.data, call.samples * call.channels),
                              of_means.data, means.data);
  MapResult of_x(outputs[0], requests[0], x.block);
  float* to = of_x.data();
  if (requests[0] != mxnet::kNullOp) {
    with_block(x.block, [&](auto known) {
      constexpr int lanes = decltype(known)::value;
      typedef Simd<lanes> S;
      for_groups(shape, lanes, [&](int64_t map, int64_t row) {
        const int64_t c = row % call.channels;
        const typename S::Floats by_d = S::load(&gradient.of_d[row]), by_x = S::load(&gradient.of_x[c]);
        const typename S::Floats shift = S::load(&gradient.shift[row]), mean = S::load(rows.mean + c);
        for (int64_t at = map; at < map + call.positions * lanes; at += lanes) {
          S::store(to + at, S::load(d.data + at) * by_d + ((S::load(x.data + at) - mean) * by_x + shift));
        }
      });
    });
  }
  of_x.deliver();
  deliver(gradient.of_gamma, outputs[1], requests[1]);
  deliver(gradient.of_beta, outputs[2], requests[2]);
  if (context.is_train && call.count() > 0) follow(call, rows, inputs[6], inputs[7]);
}

inline bool norm_enter_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_norm_enter: x is (N, C, H, W)";
  mxnet::ShapeVector expected(inputs->size(), mxnet::TShape({map[1]}));
  expected[0] = map;
  take_shapes("_norm_enter", expected, inputs);
  const mxnet::TShape numbers({map[0], map[1]});
  *outputs = {map, numbers, mxnet::TShape({kNormRows + 3 * map[0], map[1]}), numbers};
  return true;
}

// What the two forms of the arithmetic share: the sum in front of the ReLU, or of a ReLU6 if so (`six`), whose gradient is
// that of MXNet's clip: it passes at 0 and 6.
template <int lanes, bool gated, bool summed>
struct BeforeRelu {
  typedef Simd<lanes> S;
  typedef typename S::Floats Floats;
  Floats scale, shift, gate;

  BeforeRelu(const NormRows& rows, const float* gates, int64_t row, int64_t c)
      : scale(S::load(rows.scale + c)), shift(S::load(rows.shift + c)), gate(gated ? S::load(gates + row) : S::all(1)) {}
  Floats operator()(const float* x, const float* shortcut, int64_t at) const {
    Floats value = S::load(x + at) * scale + shift;
    if (gated) value *= gate;
    return summed ? value + S::load(shortcut + at) : value;
  }
};

template <bool gated, bool summed, bool six>
void norm_leave(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_leave", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const MapInput x(inputs[0]), shortcut(inputs[summed ? 2 + gated : 0], x.block);
  const RowInput statistics(inputs[1]), gates(inputs[gated ? 2 : 1]);
  const NormRows rows(statistics.data, shape[1]);
  MapResult y(outputs[0], requests[0], x.block);
  float* to = y.data();
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    typedef Simd<lanes> S;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      const BeforeRelu<lanes, gated, summed> value(rows, gates.data, row, row % shape[1]);
      for (int64_t at = map; at < map + shape[2] * shape[3] * lanes; at += lanes) {
        const typename S::Floats sum = value(x.data, shortcut.data, at);
        const typename S::Floats positive = sum < S::all(0) ? S::all(0) : sum;  // NaN stays NaN
        if (six) S::store(to + at, positive > S::all(6) ? S::all(6) : positive);
        else S::store(to + at, positive);
      }
    });
  });
  y.deliver();
}

// (gradient, x, statistics[, gate][, y]) -> gradient of the sum, sums[, gradient of the gate]
template <bool gated, bool summed, bool six>
void norm_leave_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                         const Arrays& outputs) {
  const Arrays inputs = inputs_of("_norm_leave", arrays, outputs);
  const mxnet::TShape& shape = inputs[1].shape();
  const MapInput x(inputs[1]), gradient(inputs[0], x.block), y(inputs[summed ? 3 + gated : 1], x.block);
  const RowInput statistics(inputs[2]), gates(inputs[gated ? 3 : 2]);
  const NormRows rows(statistics.data, shape[1]);
  const int64_t numbers = shape[0] * shape[1];
  std::vector<float> sums((3 * shape[0] + kNormRows) * shape[1]), of_gate(gated ? numbers : 0);
  MapResult of_sum(outputs[0], requests[0], x.block);
  float* to = of_sum.data();
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    typedef Simd<lanes> S;
    typedef typename S::Floats Floats;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      const int64_t c = row % shape[1], end = map + shape[2] * shape[3] * lanes;
      const BeforeRelu<lanes, gated, false> value(rows, gates.data, row, c);
      const Floats mean = S::load(rows.mean + c), inverse = S::load(rows.inverse + c);
      Floats sum = {}, along = {};
      for (int64_t first = map; first < end; first += kPiece * lanes) {
        Floats part = {}, part_along = {};
        for (int64_t at = first; at < std::min(end, first + kPiece * lanes); at += lanes) {
          const Floats passed = summed ? S::load(y.data + at) : value(x.data, nullptr, at);
          const Floats above = S::load(gradient.data + at);
          const Floats d = six ? (passed < S::all(0) ? S::all(0) : passed > S::all(6) ? S::all(0) : above)
                               : (passed > S::all(0) ? above : S::all(0));
          S::store(to + at, d);
          part += d;
          part_along += d * (S::load(x.data + at) - mean);
        }
        sum += part;
        along += part_along;
      }
      along *= inverse;
      S::store(&sums[row], value.gate);
      S::store(&sums[numbers + row], sum * value.gate);
      S::store(&sums[2 * numbers + row], along * value.gate);
      if (gated) S::store(&of_gate[row], along * S::load(rows.gamma + c) + sum * S::load(rows.beta + c));
    });
  });
  of_sum.deliver();
  deliver(sums, outputs[1], requests[1]);
  if (gated) deliver(of_gate, outputs[2], requests[2]);
}

template <bool gated, bool summed>
bool norm_leave_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  mxnet::ShapeVector expected = {map, mxnet::TShape({kNormRows + 3 * map[0], map[1]})};
  if (gated) expected.push_back(mxnet::TShape({map[0], map[1]}));
  if (summed) expected.push_back(map);
  take_shapes("_norm_leave", expected, inputs);
  *outputs = {map};
  return true;
}

// `_sum_relu`: relu(a + b), where a is no norm's. Both have the same gradient.
inline void sum_relu(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                     const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sum_relu", arrays, outputs);
  const MapInput a(inputs[0]), b(inputs[1], a.block);
  MapResult y(outputs[0], requests[0], a.block);
  const int64_t size = inputs[0].shape().Size();
  float* to = y.data();
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
  for (int64_t k = 0; k < size; ++k) {
    const float sum = a.data[k] + b.data[k];
    to[k] = sum < 0.0f ? 0.0f : sum;
  }
  y.deliver();
}

inline void sum_relu_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                              const Arrays& outputs) {
  const Arrays inputs = inputs_of("_sum_relu", arrays, outputs);
  const MapInput y(inputs[1]), gradient(inputs[0], y.block);
  MapResult of_sum(outputs[0], requests[0], y.block);
  const int64_t size = inputs[1].shape().Size();
  float* to = of_sum.data();
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
  for (int64_t k = 0; k < size; ++k) to[k] = y.data[k] > 0.0f ? gradient.data[k] : 0.0f;
  of_sum.deliver();
}

inline bool sum_relu_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = mxnet::shape_is_known((*inputs)[0]) ? (*inputs)[0] : (*inputs)[1];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_sum_relu: its terms are (N, C, H, W)";
  take_shapes("_sum_relu", {map, map}, inputs);
  *outputs = {map};
  return true;
}

}  // namespace kernels

#endif  // KERNELS_NORM_H_
