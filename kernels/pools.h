// The pools of attention units as operators that pass their map on: over space, `_pool_space` (the mean) and
// `_pool_space_max` (mean and maximum), and over channels, `_pool_channels` (maximum and mean).
//
// The gradient of a maximum goes to the first place that has it, which the forward pass notes.
#ifndef KERNELS_POOLS_H_
#define KERNELS_POOLS_H_

#include "fused.h"
#include "positions.h"

namespace kernels {

// The means, and with `maximum` the maxima and their positions, of a group of channels.
template <int lanes, bool maximum>
void pool_group(const float* x, int64_t positions, float* mean, float* most, float* places) {
  float total[lanes] = {}, best[lanes] = {};
  int32_t at[lanes] = {};
  for (int lane = 0; maximum && positions > 0 && lane < lanes; ++lane) best[lane] = x[lane];
  for (int64_t first = 0; first < positions; first += kPiece) {
    const int64_t last = std::min(first + kPiece, positions);
    float piece[lanes] = {};
    for (int64_t p = first; p < last; ++p) {
#pragma omp simd
      for (int lane = 0; lane < lanes; ++lane) {
        const float value = x[p * lanes + lane];
        piece[lane] += value;
        if (maximum) {
          const bool more = value > best[lane];
          best[lane] = more ? value : best[lane];
          at[lane] = more ? static_cast<int32_t>(p) : at[lane];
        }
      }
    }
    for (int lane = 0; lane < lanes; ++lane) total[lane] += piece[lane];
  }
  for (int lane = 0; lane < lanes; ++lane) {
    mean[lane] = total[lane] / positions;
    if (maximum) most[lane] = best[lane], places[lane] = at[lane];
  }
}

// x -> (x, mean) or (x, mean, maximum; its position)
template <bool maximum>
void pool_space(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_space", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const MapInput x(inputs[0]);
  const int64_t rows = shape[0] * shape[1];
  std::vector<float> means(rows), maxima(maximum ? rows : 0), places(maximum ? rows : 0);
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      pool_group<lanes, maximum>(x.data + map, shape[2] * shape[3], &means[row], maxima.data() + row,
                                 places.data() + row);
    });
  });
  deliver(means, outputs[1], requests[1]);
  if (maximum) deliver(maxima, outputs[2], requests[2]), deliver(places, outputs[3], requests[3]);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

// (gradient of x unless alone, of the mean[, of the maximum, its position]) -> gradient of x
template <bool maximum>
void pool_space_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                         const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_space", arrays, outputs);
  const mxnet::TShape& shape = outputs[0].shape();
  const bool alone = is_alone(attrs);
  const std::unique_ptr<MapInput> gradient(alone ? nullptr : new MapInput(inputs[0]));
  const int usual = block_of(shape[1]), block = !alone ? gradient->block : usual != 0 ? usual : kPlain;
  const RowInput means(inputs[!alone]), maxima(inputs[maximum ? 1 + !alone : 0]),
      places(inputs[maximum ? 2 + !alone : 0]);
  const float* above = alone ? nullptr : gradient->data;
  MapResult of_x(outputs[0], requests[0], block);
  const int64_t positions = shape[2] * shape[3];
  float* to = of_x.data();
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      float share[lanes];
      for (int lane = 0; lane < lanes; ++lane) share[lane] = means.data[row + lane] / positions;
      for (int64_t p = 0; p < positions; ++p) {
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) {
          const int64_t at = map + p * lanes + lane;
          to[at] = alone ? share[lane] : above[at] + share[lane];
        }
      }
      for (int lane = 0; maximum && positions > 0 && lane < lanes; ++lane) {
        to[map + static_cast<int64_t>(places.data[row + lane]) * lanes + lane] += maxima.data[row + lane];
      }
    });
  });
  of_x.deliver();
}

template <bool maximum>
bool pool_space_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_pool_space: x is (N, C, H, W)";
  outputs->assign(maximum ? 4 : 2, mxnet::TShape({map[0], map[1]}));
  (*outputs)[0] = map;
  return true;
}

// The maxima over channels of a tile's positions, the channels that have them, and the sums.
template <int lanes>
void pool_tile(const float* x, int64_t groups, int64_t positions, int64_t count, float* most, float* places,
               float* sums) {
  float best[kTile * lanes], total[kTile * lanes] = {};
  int32_t group_of[kTile * lanes] = {};
  for (int64_t k = 0; groups > 0 && k < count * lanes; ++k) best[k] = x[k];
  for (int64_t group = 0; group < groups; ++group) {
    const float* from = x + group * positions * lanes;
#pragma omp simd
    for (int64_t k = 0; k < count * lanes; ++k) {
      const bool more = from[k] > best[k];
      best[k] = more ? from[k] : best[k];
      group_of[k] = more ? static_cast<int32_t>(group) : group_of[k];
      total[k] += from[k];
    }
  }
  for (int64_t p = 0; p < count; ++p) {
    float maximum = best[p * lanes], sum = 0;
    int32_t place = group_of[p * lanes] * lanes;
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t k = p * lanes + lane;
      const int32_t channel = group_of[k] * lanes + lane;
      const bool more = best[k] > maximum || (best[k] == maximum && channel < place);
      maximum = more ? best[k] : maximum;
      place = more ? channel : place;
      sum += total[k];
    }
    most[p] = maximum, places[p] = place, sums[p] = sum;
  }
}

// x -> (x, (N, 2, H, W) of maximum and mean; the channel of the maximum (N, 1, H, W))
inline void pool_channels(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                          const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_channels", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const MapInput x(inputs[0]);
  const int64_t positions = shape[2] * shape[3];
  std::vector<float> pooled(shape[0] * 2 * positions), places(shape[0] * positions);
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_tiles(shape, [&](int64_t n, int64_t first, int64_t count) {
      float *most = pooled.data() + n * 2 * positions + first, *mean = most + positions;
      pool_tile<lanes>(x.data + n * shape[1] * positions + first * lanes, shape[1] / lanes, positions, count, most,
                       places.data() + n * positions + first, mean);
      for (int64_t p = 0; p < count; ++p) mean[p] /= shape[1];
    });
  });
  deliver(pooled, outputs[1], requests[1]);
  deliver(places, outputs[2], requests[2]);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

// (gradient of x unless alone, of the pooled maps, channel of the maximum) -> gradient of x
inline void pool_channels_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays,
                                   const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_pool_channels", arrays, outputs);
  const mxnet::TShape& shape = outputs[0].shape();
  const bool alone = is_alone(attrs);
  const std::unique_ptr<MapInput> gradient(alone ? nullptr : new MapInput(inputs[0]));
  const int usual = block_of(shape[1]), block = !alone ? gradient->block : usual != 0 ? usual : kPlain;
  const RowInput pooled(inputs[!alone]), places(inputs[1 + !alone]);
  const float* above = alone ? nullptr : gradient->data;
  MapResult of_x(outputs[0], requests[0], block);
  const int64_t positions = shape[2] * shape[3];
  const float share = 1.0f / shape[1];
  float* to = of_x.data();
  with_block(block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
    for_groups(shape, lanes, [&](int64_t map, int64_t row) {
      const int64_t n = row / shape[1];
      const float *most = pooled.data + n * 2 * positions, *mean = most + positions;
      const float* place = places.data + n * positions;
      const int32_t channel = static_cast<int32_t>(row % shape[1]);
      for (int64_t p = 0; p < positions; ++p) {
        const int32_t at_lane = static_cast<int32_t>(place[p]) - channel;
        const float of_most = most[p], of_all = mean[p] * share;
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) {
          const int64_t at = map + p * lanes + lane;
          to[at] = (alone ? 0.0f : above[at]) + (of_all + (at_lane == lane ? of_most : 0.0f));
        }
      }
    });
  });
  of_x.deliver();
}

inline bool pool_channels_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_pool_channels: x is (N, C, H, W)";
  *outputs = {map, mxnet::TShape({map[0], 2, map[2], map[3]}), mxnet::TShape({map[0], 1, map[2], map[3]})};
  return true;
}

}  // namespace kernels

#endif  // KERNELS_POOLS_H_
