// The product of a bfloat16 map with a factor for each position and sample, (N, 1, H, W), and its gradients.
#ifndef KERNELS_BFLOAT16_POSITIONS_H_
#define KERNELS_BFLOAT16_POSITIONS_H_

#include "bfloat16_channels.h"
#include "bfloat16_maps.h"
#include "positions.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

inline __m512 everywhere(Bits value) { return wide(_mm256_set1_epi16(static_cast<int16_t>(value))); }

inline bool is_position_gate(const Arrays& inputs, const Requests& requests, const Arrays& outputs,
                             const mxnet::TShape& map, const mxnet::TShape& factor) {
  return are_narrow(inputs) && are_narrow(outputs) && overwrites(requests) && is_map(map) &&
         is_position_factor(factor, map) && takes(outputs[0]);
}

inline bool scale_positions(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                            const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_position_gate(inputs, requests, outputs, shape, inputs[1].shape())) return false;
  Buffer copies[2];
  const Bits *x = read(inputs[0], &copies[0]), *factor = read(inputs[1], &copies[1]);
  Bits* y = write(outputs[0]);
  const int64_t positions = area(shape);
  for_runs(shape, false, [&](auto lanes_of, const Run& run) {
    typedef decltype(lanes_of) L;
    const Bits* factors = factor + run.row / shape[1] * positions;
    for (int64_t p = run.first; p < run.last; ++p) {
      L::store(y + run.at(p), L::load(x + run.at(p), run.mask) * everywhere(factors[p]), run.mask);
    }
  });
  return true;
}

// (gradient, x, factor) -> (gradient of x, gradient of the factor)
inline bool scale_positions_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs,
                                     const Requests& requests, const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[1].shape();
  if (!is_position_gate(inputs, requests, outputs, shape, inputs[2].shape()) || inputs[0].shape() != shape) return false;
  Buffer copies[3];
  const Bits *gradient = read(inputs[0], &copies[0]), *x = read(inputs[1], &copies[1]);
  const Bits* factor = read(inputs[2], &copies[2]);
  Bits *of_x = write(outputs[0]), *of_factor = write(outputs[1]);
  const int64_t positions = area(shape), channels = shape[1];
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t k = 0; k < shape[0] * positions; ++k) {
    const __m512 by = everywhere(factor[k]);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < channels; c += kVector) {
      const __mmask16 mask = lanes(channels - c);
      const __m512 g = load(gradient + k * channels + c, mask);
      sum = _mm512_fmadd_ps(g, load(x + k * channels + c, mask), sum);
      store(of_x + k * channels + c, g * by, mask);
    }
    of_factor[k] = rounded(_mm512_reduce_add_ps(sum));
  }
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

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_POSITIONS_H_
