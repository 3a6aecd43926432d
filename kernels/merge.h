// DCA's merges as operators with gradients. Composed of MXNet's operators, each takes a dozen calls whose arithmetic is
// next to nothing.
//
// `_merge_vectors`: y = relu(layer_norm(a u + b v + c)). Inputs: u, v (N, C), the weight (1, 2, 1, 1) with a and b, if there
// is one the bias (1,) with c, gamma, beta (C,). Outputs: y (N, C); mean and 1 / deviation (N, 2). Argument: `eps`.
//
// `_merge_maps`: y = p u + q v. Inputs: u (N, C, H, W), p, q (1,), v (N, C, H, W). Output: y (N, C, H, W).
#ifndef KERNELS_MERGE_H_
#define KERNELS_MERGE_H_

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "fused.h"

namespace kernels {

// a u + b v + c, and its layer norm.
struct VectorMerge {
  const float *u, *v, *gamma;
  const float a, b, c;
  const int64_t samples, channels;

  VectorMerge(const RowInput& u, const RowInput& v, const RowInput& weight, const RowInput* bias, const RowInput& gamma,
              const mxnet::TShape& shape)
      : u(u.data), v(v.data), gamma(gamma.data), a(weight.data[0]), b(weight.data[1]),
        c(bias == nullptr ? 0 : bias->data[0]), samples(shape[0]), channels(shape[1]) {}

  float sum(int64_t at) const { return a * u[at] + b * v[at] + c; }
};

template <bool biased>
void merge_vectors(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                   const Arrays& outputs) {
  const Arrays inputs = inputs_of("_merge_vectors", arrays, outputs);
  const RowInput u(inputs[0]), v(inputs[1]), weight(inputs[2]), bias(inputs[biased ? 3 : 2]);
  const RowInput gamma(inputs[3 + biased]), beta(inputs[4 + biased]);
  const mxnet::TShape& shape = inputs[0].shape();
  const VectorMerge merge(u, v, weight, biased ? &bias : nullptr, gamma, shape);
  const double epsilon = std::atof(argument(attrs, "eps", "1e-5").c_str());
  std::vector<float> y(shape.Size()), statistics(2 * merge.samples);
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t n = 0; n < merge.samples; ++n) {
    const int64_t first = n * merge.channels;
    double total = 0, squares = 0;
    for (int64_t k = first; k < first + merge.channels; ++k) total += y[k] = merge.sum(k);
    const double mean = total / merge.channels;
    for (int64_t k = first; k < first + merge.channels; ++k) squares += (y[k] - mean) * (y[k] - mean);
    const double inverse = 1 / std::sqrt(squares / merge.channels + epsilon);
    for (int64_t c = 0; c < merge.channels; ++c) {
      const float normed = float((y[first + c] - mean) * inverse) * gamma.data[c] + beta.data[c];
      y[first + c] = normed < 0 ? 0 : normed;  // NaN stays NaN
    }
    statistics[2 * n] = float(mean);
    statistics[2 * n + 1] = float(inverse);
  }
  deliver(y, outputs[0], requests[0]);
  deliver(statistics, outputs[1], requests[1]);
}

// (gradient, u, v, weight[, bias], gamma, y, statistics) -> gradients of u, v, weight[, bias], gamma, beta
template <bool biased>
void merge_vectors_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                            const Arrays& outputs) {
  const Arrays inputs = inputs_of("_merge_vectors", arrays, outputs);
  const RowInput gradient(inputs[0]), u(inputs[1]), v(inputs[2]), weight(inputs[3]), bias(inputs[biased ? 4 : 3]);
  const RowInput gamma(inputs[4 + biased]), y(inputs[5 + biased]), statistics(inputs[6 + biased]);
  const mxnet::TShape& shape = inputs[1].shape();
  const VectorMerge merge(u, v, weight, biased ? &bias : nullptr, gamma, shape);
  std::vector<float> of_sum(shape.Size()), of_normed(shape.Size()), normed(shape.Size());
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t n = 0; n < merge.samples; ++n) {
    const float mean = statistics.data[2 * n], inverse = statistics.data[2 * n + 1];
    double total = 0, along = 0;
    for (int64_t c = 0; c < merge.channels; ++c) {
      const int64_t k = n * merge.channels + c;
      of_normed[k] = y.data[k] > 0 ? gradient.data[k] : 0;
      normed[k] = (merge.sum(k) - mean) * inverse;
      const double scaled = double(of_normed[k]) * merge.gamma[c];
      total += scaled, along += scaled * normed[k];
    }
    total /= merge.channels, along /= merge.channels;
    for (int64_t c = 0; c < merge.channels; ++c) {
      const int64_t k = n * merge.channels + c;
      of_sum[k] = float((double(of_normed[k]) * merge.gamma[c] - total - normed[k] * along) * inverse);
    }
  }
  double of_a = 0, of_b = 0, of_c = 0;
  for (size_t k = 0; k < of_sum.size(); ++k) {
    of_a += double(of_sum[k]) * u.data[k], of_b += double(of_sum[k]) * v.data[k], of_c += of_sum[k];
  }
  std::vector<float> of_gamma(merge.channels), of_beta(merge.channels);
  for (int64_t n = 0; n < merge.samples; ++n) {
    for (int64_t c = 0; c < merge.channels; ++c) {
      const int64_t k = n * merge.channels + c;
      of_gamma[c] += of_normed[k] * normed[k];
      of_beta[c] += of_normed[k];
    }
  }
  const auto times = [&](float factor) {
    std::vector<float> all(of_sum.size());
    for (size_t k = 0; k < all.size(); ++k) all[k] = factor * of_sum[k];
    return all;
  };
  deliver(times(merge.a), outputs[0], requests[0]);
  deliver(times(merge.b), outputs[1], requests[1]);
  deliver({float(of_a), float(of_b)}, outputs[2], requests[2]);
  if (biased) deliver({float(of_c)}, outputs[3], requests[3]);
  deliver(of_gamma, outputs[3 + biased], requests[3 + biased]);
  deliver(of_beta, outputs[4 + biased], requests[4 + biased]);
}

template <bool biased>
bool merge_vectors_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape vector = mxnet::shape_is_known((*inputs)[0]) ? (*inputs)[0] : (*inputs)[1];
  if (!mxnet::shape_is_known(vector)) return false;
  CHECK_EQ(vector.ndim(), 2) << "_merge_vectors: u and v are (N, C)";
  const mxnet::TShape channels({vector[1]});
  mxnet::ShapeVector expected = {vector, vector, mxnet::TShape({1, 2, 1, 1}), channels, channels};
  if (biased) expected.insert(expected.begin() + 3, mxnet::TShape({1}));
  take_shapes("_merge_vectors", expected, inputs);
  *outputs = {vector, mxnet::TShape({vector[0], 2})};
  return true;
}

inline void merge_maps(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                       const Arrays& outputs) {
  const Arrays inputs = inputs_of("_merge_maps", arrays, outputs);
  const MapInput u(inputs[0]), v(inputs[3], u.block);
  const float p = RowInput(inputs[1]).data[0], q = RowInput(inputs[2]).data[0];
  MapResult y(outputs[0], requests[0], u.block);
  const int64_t size = inputs[0].shape().Size();
  float* const to = y.data();
#pragma omp parallel for simd num_threads(threads()) if (size > kSmall)
  for (int64_t k = 0; k < size; ++k) to[k] = p * u.data[k] + q * v.data[k];
  y.deliver();
}

// (gradient, u, p, q, v) -> gradients of u, p, q, v
inline void merge_maps_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_merge_maps", arrays, outputs);
  const MapInput u(inputs[1]), v(inputs[4], u.block), gradient(inputs[0], u.block);
  const float p = RowInput(inputs[2]).data[0], q = RowInput(inputs[3]).data[0];
  MapResult of_u(outputs[0], requests[0], u.block), of_v(outputs[3], requests[3], u.block);
  const int64_t size = inputs[1].shape().Size(), pieces = (size + kSmall - 1) / kSmall;
  std::vector<float> of_p(pieces), of_q(pieces);  // in pieces, so that rounding errors do not grow with the map
  float *const to_u = of_u.data(), *const to_v = of_v.data();
#pragma omp parallel for num_threads(threads()) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    float along_u = 0, along_v = 0;
#pragma omp simd reduction(+ : along_u, along_v)
    for (int64_t k = piece * kSmall; k < std::min(size, (piece + 1) * kSmall); ++k) {
      const float above = gradient.data[k];
      along_u += above * u.data[k];
      along_v += above * v.data[k];
      to_u[k] = p * above;
      to_v[k] = q * above;
    }
    of_p[piece] = along_u, of_q[piece] = along_v;
  }
  of_u.deliver();
  of_v.deliver();
  deliver({float(std::accumulate(of_p.begin(), of_p.end(), 0.0))}, outputs[1], requests[1]);
  deliver({float(std::accumulate(of_q.begin(), of_q.end(), 0.0))}, outputs[2], requests[2]);
}

inline bool merge_maps_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = mxnet::shape_is_known((*inputs)[0]) ? (*inputs)[0] : (*inputs)[3];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_merge_maps: u and v are (N, C, H, W)";
  take_shapes("_merge_maps", {map, mxnet::TShape({1}), mxnet::TShape({1}), map}, inputs);
  *outputs = {map};
  return true;
}

inline void register_merges() {
  register_fused({"_merge_vectors", {"u", "v", "weight", "gamma", "beta"}, {"eps"}, 2, 1, {0, 1, 2, 3}, {0, 1}, {}, false,
                  InferShape::make<merge_vectors_shapes<false>>(), merge_vectors<false>, merge_vectors_backward<false>});
  register_fused({"_merge_vectors_bias", {"u", "v", "weight", "bias", "gamma", "beta"}, {"eps"}, 2, 1, {0, 1, 2, 3, 4},
                  {0, 1}, {}, false, InferShape::make<merge_vectors_shapes<true>>(), merge_vectors<true>,
                  merge_vectors_backward<true>});
  Fused maps = {"_merge_maps", {"u", "p", "q", "v"}, {}, 1, 1, {0, 1, 2, 3}, {}, {}, false,
                InferShape::make<merge_maps_shapes>(), merge_maps, merge_maps_backward};
  maps.types = InferType::make<map_types<true>>();
  register_fused(maps);
}

}  // namespace kernels

#endif  // KERNELS_MERGE_H_
