// The product of (N, C, H, W) with a factor for each position and sample, (N, 1, H, W), and its gradients.
#ifndef KERNELS_POSITIONS_H_
#define KERNELS_POSITIONS_H_

#include "channels.h"

namespace kernels {

constexpr int64_t kTile = 64;  // positions whose numbers are added up over all channels, in the nearest cache

// Calls `body(sample, first position, number of positions)` for all tiles, on all threads.
template <class Body>
void for_tiles(const mxnet::TShape& shape, Body body) {
  const int64_t positions = shape[2] * shape[3], tiles = (positions + kTile - 1) / kTile, count = shape[0] * tiles;
#pragma omp parallel for num_threads(threads()) if (count * kTile * shape[1] > kSmall)
  for (int64_t k = 0; k < count; ++k) {
    const int64_t first = k % tiles * kTile;
    body(k / tiles, first, std::min(kTile, positions - first));
  }
}

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
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      const float* factors = factor + row / lanes / groups * positions;
      for (int64_t p = 0; p < positions; ++p) {
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) y[map + p * lanes + lane] = x[map + p * lanes + lane] * factors[p];
      }
    });
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
    for_tiles(shape, [&](int64_t n, int64_t first, int64_t count) {
      const float* factors = factor + n * positions + first;
      float sums[kTile * lanes] = {};
      for (int64_t group = n * groups; group < (n + 1) * groups; ++group) {
        const int64_t at = (group * positions + first) * lanes;
        for (int64_t p = 0; p < count; ++p) {
#pragma omp simd
          for (int lane = 0; lane < lanes; ++lane) {
            const int64_t k = p * lanes + lane;
            const float g = gradient[at + k];
            sums[k] += g * x[at + k];
            of_x[at + k] = g * factors[p];
          }
        }
      }
      // Behind all that is read: of_factor may lie where the gradient does, if that has one channel.
      for (int64_t p = 0; p < count; ++p) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int lane = 0; lane < lanes; ++lane) sum += sums[p * lanes + lane];
        of_factor[n * positions + first + p] = sum;
      }
    });
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
