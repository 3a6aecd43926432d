// The product of (N, C, H, W) with a factor for each position and sample, (N, 1, H, W), and its gradients.
#ifndef KERNELS_POSITIONS_H_
#define KERNELS_POSITIONS_H_

#include "channels.h"

namespace kernels {

inline bool is_position_factor(const mxnet::TShape& factor, const mxnet::TShape& map) {
  return is_map(factor) && factor[0] == map[0] && factor[1] == 1 && factor[2] == map[2] && factor[3] == map[3];
}

inline bool scale_positions(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                            const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!dense_float32(inputs) || !overwrites(requests) || !is_map(shape) ||
      !is_position_factor(inputs[1].shape(), shape)) {
    return false;
  }
  const int block = layout(inputs[0]);
  if (block == kUnknown || layout(inputs[1]) != kPlain || !takes(outputs[0], block)) return false;
  const float *x = pointer(inputs[0]), *factor = pointer(inputs[1]);
  float* y = output(outputs[0], block);
  const int64_t positions = shape[2] * shape[3], groups = shape[1] / block;
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
#pragma omp parallel for num_threads(threads())
    for (int64_t group = 0; group < shape[0] * groups; ++group) {
      const float *from = x + group * positions * lanes, *factors = factor + group / groups * positions;
      float* to = y + group * positions * lanes;
      for (int64_t p = 0; p < positions; ++p) {
        for (int lane = 0; lane < lanes; ++lane) to[p * lanes + lane] = from[p * lanes + lane] * factors[p];
      }
    }
  });
  return true;
}

// (gradient, x, factor) -> (gradient of x, gradient of the factor)
inline bool scale_positions_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs,
                                     const Requests& requests, const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[1].shape();
  if (!dense_float32(inputs) || !overwrites(requests) || !is_map(shape) || inputs[0].shape() != shape ||
      !is_position_factor(inputs[2].shape(), shape)) {
    return false;
  }
  const int block = layout(inputs[1]);
  if (block == kUnknown || layout(inputs[2]) != kPlain || !takes(outputs[0], block)) return false;
  std::vector<float> copy;
  const float *gradient = in_layout(inputs[0], block, &copy), *x = pointer(inputs[1]), *factor = pointer(inputs[2]);
  float *of_x = output(outputs[0], block), *of_factor = output(outputs[1], kPlain);
  const int64_t positions = shape[2] * shape[3], groups = shape[1] / block;
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
#pragma omp parallel for num_threads(threads())
    for (int64_t n = 0; n < shape[0]; ++n) {
      const float* factors = factor + n * positions;
      std::vector<float> sums(positions);  // of_factor may lie where the gradient does, if that has one channel
      for (int64_t group = n * groups; group < (n + 1) * groups; ++group) {
        const int64_t at = group * positions * lanes;
        for (int64_t p = 0; p < positions; ++p) {
          float sum = 0;
#pragma omp simd reduction(+ : sum)
          for (int lane = 0; lane < lanes; ++lane) {
            const float g = gradient[at + p * lanes + lane];
            sum += g * x[at + p * lanes + lane];
            of_x[at + p * lanes + lane] = g * factors[p];
          }
          sums[p] += sum;
        }
      }
      std::copy(sums.begin(), sums.end(), of_factor + n * positions);
    }
  });
  return true;
}

// The kernels of `broadcast_mul` and its gradient: the first that accepts the call.
inline bool scale(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs, const Requests& requests,
                  const Arrays& outputs) {
  return scale_channels(attrs, context, inputs, requests, outputs) ||
         scale_positions(attrs, context, inputs, requests, outputs);
}

inline bool scale_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                           const Requests& requests, const Arrays& outputs) {
  return scale_channels_backward(attrs, context, inputs, requests, outputs) ||
         scale_positions_backward(attrs, context, inputs, requests, outputs);
}

}  // namespace kernels

#endif  // KERNELS_POSITIONS_H_
