// Operations of attention units on whole channels of (N, C, H, W): their mean over space, and their product or sum with a
// number for each channel and sample.
//
// MXNet only implements these for the plain layout, and the gradient of the product uses a generic reduction that takes
// ten times as long as the arithmetic.
#ifndef KERNELS_CHANNELS_H_
#define KERNELS_CHANNELS_H_

#include "layout.h"

namespace kernels {

inline bool is_map(const mxnet::TShape& shape) { return shape.ndim() == 4; }

inline bool is_factor(const mxnet::TShape& factor, const mxnet::TShape& map) {
  return is_map(factor) && factor[0] == map[0] && factor[1] == map[1] && factor[2] == 1 && factor[3] == 1;
}

// (N, C, 1, 1) is stored as (N, C) in every layout without padding.
inline bool is_row(const NDArray& factor) { return layout(factor) != kUnknown; }

// Calls `body(map offset, factor offset)` for every sample and group of `block` channels, on all threads.
template <class Body>
void for_groups(const mxnet::TShape& shape, int block, Body body) {
  const int64_t groups = shape[0] * shape[1] / block, positions = shape[2] * shape[3];
#pragma omp parallel for num_threads(threads()) if (groups * positions * block > kSmall)
  for (int64_t group = 0; group < groups; ++group) body(group * positions * block, group * block);
}

// The loops below are written for a block that the compiler knows.
template <class Body>
void with_block(int block, Body body) {
  if (block == 16) {
    body(std::integral_constant<int, 16>());
  } else if (block == 8) {
    body(std::integral_constant<int, 8>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

// Calls `body(place in the map, place in the rows)` for every number of a map in blocks; rows are (N, C).
template <class Body>
void for_places(const mxnet::TShape& shape, int block, Body body) {
  const int64_t positions = shape[2] * shape[3];
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [=](int64_t map, int64_t row) {
      for (int64_t p = 0; p < positions; ++p) {
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) body(map + p * lanes + lane, row + lane);
      }
    });
  });
}

// Sums over space are taken in pieces of this many positions, so that rounding errors do not grow with the map.
constexpr int64_t kPiece = 256;

// The sums over space of what `value(place in the map, place in the rows)` returns, times `scale`, into rows.
template <class Value>
void sum_over_space(const mxnet::TShape& shape, int block, float scale, float* rows, Value value) {
  const int64_t positions = shape[2] * shape[3];
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [=](int64_t map, int64_t row) {
      float total[lanes] = {};
      for (int64_t first = 0; first < positions; first += kPiece) {
        const int64_t last = std::min(first + kPiece, positions);
        float piece[lanes] = {};
        if (lanes == 1) {  // along the positions
          float sum = 0;
#pragma omp simd reduction(+ : sum)
          for (int64_t p = first; p < last; ++p) sum += value(map + p, row);
          piece[0] = sum;
        } else {
          for (int64_t p = first; p < last; ++p) {
#pragma omp simd
            for (int lane = 0; lane < lanes; ++lane) piece[lane] += value(map + p * lanes + lane, row + lane);
          }
        }
        for (int lane = 0; lane < lanes; ++lane) total[lane] += piece[lane];
      }
      for (int lane = 0; lane < lanes; ++lane) rows[row + lane] = total[lane] * scale;
    });
  });
}

// Whether a call is about whole channels of a map, and supported here.
inline bool is_ours(const Arrays& inputs, const Requests& requests, const mxnet::TShape& map,
                    const mxnet::TShape& factor) {
  return dense_float32(inputs) && overwrites(requests) && is_map(map) && is_factor(factor, map);
}

// y = combine(x, number of the channel and sample)
template <class Combine>
bool with_channels(const Arrays& inputs, const Requests& requests, const Arrays& outputs, Combine combine) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_ours(inputs, requests, shape, inputs[1].shape())) return false;
  const int block = layout(inputs[0]);
  if (block == kUnknown || !is_row(inputs[1]) || !takes(outputs[0], block)) return false;
  const float *x = pointer(inputs[0]), *rows = pointer(inputs[1]);
  float* y = output(outputs[0], block);
  for_places(shape, block, [=](int64_t at, int64_t row) { y[at] = combine(x[at], rows[row]); });
  return true;
}

inline bool scale_channels(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                           const Arrays& outputs) {
  return with_channels(inputs, requests, outputs, [](float x, float factor) { return x * factor; });
}

inline bool shift_channels(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                           const Arrays& outputs) {
  return with_channels(inputs, requests, outputs, [](float x, float term) { return x + term; });
}

// (gradient, x, factor) -> (gradient of x, gradient of the factor)
inline bool scale_channels_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                    const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[1].shape();
  if (!is_ours(inputs, requests, shape, inputs[2].shape()) || inputs[0].shape() != shape) return false;
  const int block = layout(inputs[1]);
  if (block == kUnknown || !is_row(inputs[2]) || !takes(outputs[0], block)) return false;
  std::vector<float> copy;
  const float *gradient = in_layout(inputs[0], block, &copy), *x = pointer(inputs[1]), *factor = pointer(inputs[2]);
  float *of_x = output(outputs[0], block), *of_factor = output(outputs[1], kPlain);
  sum_over_space(shape, block, 1.0f, of_factor, [=](int64_t at, int64_t row) {
    const float g = gradient[at];
    of_x[at] = g * factor[row];
    return g * x[at];
  });
  return true;
}

// gradient -> (gradient of x, gradient of the term); the former may overwrite the gradient.
inline bool shift_channels_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                    const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_ours(inputs, requests, shape, outputs[1].shape()) || outputs[0].shape() != shape) return false;
  const int block = layout(inputs[0]);
  if (block == kUnknown || !takes(outputs[0], block)) return false;
  const float* gradient = pointer(inputs[0]);
  float *of_x = output(outputs[0], block), *of_term = output(outputs[1], kPlain);
  sum_over_space(shape, block, 1.0f, of_term, [=](int64_t at, int64_t) { return of_x[at] = gradient[at]; });
  return true;
}

// AdaptiveAvgPooling2D to one position: (N, C, H, W) -> (N, C, 1, 1)
inline bool global_mean(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                        const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_ours(inputs, requests, shape, outputs[0].shape())) return false;
  const int block = layout(inputs[0]);
  if (block == kUnknown) return false;
  const float* x = pointer(inputs[0]);
  sum_over_space(shape, block, 1.0f / (shape[2] * shape[3]), output(outputs[0], kPlain),
                 [=](int64_t at, int64_t) { return x[at]; });
  return true;
}

// The gradient (N, C, 1, 1) at every position, in oneDNN's layout if possible, like the map to which it is added.
inline bool global_mean_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                 const Arrays& outputs) {
  const mxnet::TShape& shape = outputs[0].shape();
  if (!is_ours(inputs, requests, shape, inputs[0].shape()) || !is_row(inputs[0])) return false;
  int block = block_of(shape[1]);
  if (block == 0 || !takes(outputs[0], block)) block = kPlain;
  const float* gradient = pointer(inputs[0]);
  const float share = 1.0f / (shape[2] * shape[3]);
  float* of_x = output(outputs[0], block);
  for_places(shape, block, [=](int64_t at, int64_t row) { of_x[at] = gradient[row] * share; });
  return true;
}

}  // namespace kernels

#endif  // KERNELS_CHANNELS_H_
