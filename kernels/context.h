// GC's context as one operator, `_attend`: the mean of x over space with the weights softmax(m x + b), where m gives a
// number for each position.
//
// Inputs: x (N, C, H, W), m (1, C, 1, 1), b (1,). Outputs: x, the context (N, C); the weights (N, H W). A sample is
// computed by one thread, which finds part of it in its cache again.
#ifndef KERNELS_CONTEXT_H_
#define KERNELS_CONTEXT_H_

#include "pools.h"

namespace kernels {

// The sums over channels of factor[c] x[c] at every position of a sample, plus `start`.
template <int lanes>
void weigh_channels(const float* x, const float* factor, int64_t channels, int64_t positions, float start,
                    float* sums) {
  for (int64_t first = 0; first < positions; first += kTile) {
    const int64_t count = std::min(kTile, positions - first);
    float total[kTile * lanes] = {};
    for (int64_t c = 0; c < channels; c += lanes) {
      const float* from = x + c * positions + first * lanes;
      for (int64_t p = 0; p < count; ++p) {
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) total[p * lanes + lane] += from[p * lanes + lane] * factor[c + lane];
      }
    }
    for (int64_t p = 0; p < count; ++p) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int lane = 0; lane < lanes; ++lane) sum += total[p * lanes + lane];
      sums[first + p] = start + sum;
    }
  }
}

// The sums over positions of factor[p] x[c, p] for the channels of a sample.
template <int lanes>
void weigh_positions(const float* x, const float* factor, int64_t channels, int64_t positions, float* sums) {
  for (int64_t c = 0; c < channels; c += lanes) {
    const float* from = x + c * positions;
    float total[lanes] = {};
    for (int64_t first = 0; first < positions; first += kPiece) {
      const int64_t last = std::min(first + kPiece, positions);
      float piece[lanes] = {};
      if (lanes == 1) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t p = first; p < last; ++p) sum += from[p] * factor[p];
        piece[0] = sum;
      } else {
        for (int64_t p = first; p < last; ++p) {
#pragma omp simd
          for (int lane = 0; lane < lanes; ++lane) piece[lane] += from[p * lanes + lane] * factor[p];
        }
      }
      for (int lane = 0; lane < lanes; ++lane) total[lane] += piece[lane];
    }
    for (int lane = 0; lane < lanes; ++lane) sums[c + lane] = total[lane];
  }
}

inline void softmax(float* values, int64_t count) {
  const float most = count > 0 ? *std::max_element(values, values + count) : 0;
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += values[p] = std::exp(values[p] - most);
  for (int64_t p = 0; p < count; ++p) values[p] = static_cast<float>(values[p] / sum);
}

inline void attend(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                   const Arrays& outputs) {
  const Arrays inputs = inputs_of("_attend", arrays, outputs);
  const mxnet::TShape& shape = inputs[0].shape();
  const MapInput x(inputs[0]);
  const RowInput mask(inputs[1]), bias(inputs[2]);
  const int64_t channels = shape[1], positions = shape[2] * shape[3];
  std::vector<float> weights(shape[0] * positions), context(shape[0] * channels);
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
#pragma omp parallel for num_threads(threads())
    for (int64_t n = 0; n < shape[0]; ++n) {
      const float* sample = x.data + n * channels * positions;
      float* own = weights.data() + n * positions;
      weigh_channels<lanes>(sample, mask.data, channels, positions, bias.data[0], own);
      softmax(own, positions);
      weigh_positions<lanes>(sample, own, channels, positions, context.data() + n * channels);
    }
  });
  deliver(context, outputs[1], requests[1]);
  deliver(weights, outputs[2], requests[2]);
  pass_on(inputs[0], x, outputs[0], requests[0]);
}

// to = above + weights[p] by_weight[c] + logits[p] by_logit[c] for a sample
template <int lanes>
void add_gradients(const float* above, const float* weights, const float* by_weight, const float* logits,
                   const float* by_logit, int64_t channels, int64_t positions, float* to) {
  for (int64_t c = 0; c < channels; c += lanes) {
    for (int64_t p = 0; p < positions; ++p) {
#pragma omp simd
      for (int lane = 0; lane < lanes; ++lane) {
        const int64_t at = c * positions + p * lanes + lane;
        to[at] = above[at] + (weights[p] * by_weight[c + lane] + logits[p] * by_logit[c + lane]);
      }
    }
  }
}

// (gradient of x, of the context, x, m, weights) -> gradients of x, m, b
inline void attend_backward(const NodeAttrs&, const OpContext&, const Arrays& arrays, const Requests& requests,
                            const Arrays& outputs) {
  const Arrays inputs = inputs_of("_attend", arrays, outputs);
  const mxnet::TShape& shape = inputs[2].shape();
  const MapInput x(inputs[2]), above(inputs[0], x.block);
  const RowInput of_context(inputs[1]), mask(inputs[3]), kept(inputs[4]);
  const int64_t samples = shape[0], channels = shape[1], positions = shape[2] * shape[3];
  MapResult of_x(outputs[0], requests[0], x.block);
  std::vector<float> of_mask(samples * channels), of_bias(samples);
  float* to = of_x.data();
  with_block(x.block, [&](auto known) {
    constexpr int lanes = decltype(known)::value;
#pragma omp parallel for num_threads(threads())
    for (int64_t n = 0; n < samples; ++n) {
      const float *sample = x.data + n * channels * positions, *weights = kept.data + n * positions;
      const float* vector = of_context.data + n * channels;
      std::vector<float> logits(positions);
      weigh_channels<lanes>(sample, vector, channels, positions, 0, logits.data());
      double along = 0, sum = 0;
      for (int64_t p = 0; p < positions; ++p) along += static_cast<double>(weights[p]) * logits[p];
      for (int64_t p = 0; p < positions; ++p) {
        logits[p] = static_cast<float>(weights[p] * (logits[p] - along));
        sum += logits[p];
      }
      of_bias[n] = static_cast<float>(sum);
      weigh_positions<lanes>(sample, logits.data(), channels, positions, &of_mask[n * channels]);
      add_gradients<lanes>(above.data + n * channels * positions, weights, vector, logits.data(), mask.data, channels,
                           positions, to + n * channels * positions);
    }
  });
  of_x.deliver();
  for (int64_t n = 1; n < samples; ++n) {
    for (int64_t c = 0; c < channels; ++c) of_mask[c] += of_mask[n * channels + c];
    of_bias[0] += of_bias[n];
  }
  of_mask.resize(channels);
  of_bias.resize(1);
  deliver(of_mask, outputs[1], requests[1]);
  deliver(of_bias, outputs[2], requests[2]);
}

inline bool attend_shapes(const NodeAttrs&, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_attend: x is (N, C, H, W)";
  take_shapes("_attend", {map, mxnet::TShape({1, map[1], 1, 1}), mxnet::TShape({1})}, inputs);
  *outputs = {map, mxnet::TShape({map[0], map[1]}), mxnet::TShape({map[0], map[2] * map[3]})};
  return true;
}

inline void register_attend() {
  register_fused({"_attend", {"x", "mask", "bias"}, {}, 3, 2, {0, 1}, {2}, {}, true,
                  InferShape::make<attend_shapes>(), attend, attend_backward});
}

}  // namespace kernels

#endif  // KERNELS_CONTEXT_H_
