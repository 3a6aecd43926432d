// The convolution operator for bfloat16 maps, and its gradient.
#ifndef KERNELS_BFLOAT16_CONVOLUTIONS_H_
#define KERNELS_BFLOAT16_CONVOLUTIONS_H_

#include "bfloat16_channels.h"
#include "bfloat16_depthwise.h"
#include "bfloat16_weights.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

// The gradient of biases: sums over samples and positions.
inline void sum_biases(const Geometry& g, const Bits* gradients, Bits* to) {
  std::vector<double> sums(2 * g.outputs);
  channel_sums(g.samples * g.out_height * g.out_width, g.outputs, sums.data(), sums.data() + g.outputs,
               [=](int64_t at, int64_t, __mmask16 mask, __m512* sum, __m512*) { *sum += load(gradients + at, mask); });
  for (int64_t k = 0; k < g.outputs; ++k) to[k] = rounded(float(sums[k]));
}

// Weights or biases in the plain layout, whatever MXNet has done to them.
inline const Bits* plain(const NDArray& weight, NDArray* copy) {
  *copy = weight.IsMKLDNNData() ? weight.Reorder2Default() : weight;
  return bits(*copy);
}

// (map, weights), or (map, weights, biases)
inline bool convolution(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                        const Arrays& outputs) {
  Geometry g;
  if (inputs.size() < 2 || inputs.size() > 3 || !overwrites(requests)) return false;
  if (!are_narrow(inputs) || !are_narrow(outputs)) return false;
  if (!takes(outputs[0]) || !understood(attrs, inputs[0].shape(), inputs[1].shape(), outputs[0].shape(), &g)) return false;
  Buffer copy;
  NDArray weights, biases;
  const Bits* x = read(inputs[0], &copy);
  const Bits* w = plain(inputs[1], &weights);
  const Bits* b = inputs.size() == 3 ? plain(inputs[2], &biases) : nullptr;
  if (!g.depthwise) {
    correlate_forward(g, x, w, b, write(outputs[0]));
  } else {
    const auto taps = as_floats(w, inputs[1].shape().Size()), start = as_floats(b, b == nullptr ? 0 : g.outputs);
    depthwise_of(g).forward(x, taps.data(), b == nullptr ? nullptr : start.data(), write(outputs[0]));
  }
  return true;
}

// (gradient, map, weights) or (gradient, map, weights, biases) -> (gradient of the map, of the weights, of the biases)
inline bool convolution_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs,
                                 const Requests& requests, const Arrays& outputs) {
  Geometry g;
  if (inputs.size() < 3 || outputs.size() != inputs.size() - 1) return false;
  if (!are_narrow(inputs) || !are_narrow(outputs)) return false;
  const bool of_map = requests[0] != mxnet::kNullOp, of_weights = requests[1] != mxnet::kNullOp;
  const bool of_biases = outputs.size() == 3 && requests[2] != mxnet::kNullOp;
  if (std::count(requests.begin(), requests.end(), mxnet::kAddTo) > 0 || (of_map && !takes(outputs[0]))) return false;
  if (!understood(attrs, inputs[1].shape(), inputs[2].shape(), inputs[0].shape(), &g)) return false;
  Buffer copies[2];
  NDArray weights;
  const Bits *gradient = read(inputs[0], &copies[0]), *x = read(inputs[1], &copies[1]);
  if (of_weights) {
    NDArray target = outputs[1];
    target.InvalidateMKLDNNData();
    if (g.depthwise) {
      const std::vector<float> sums = depthwise_of(g).of_weights(x, gradient);
      std::transform(sums.begin(), sums.end(), bits(target), rounded);
    } else {
      correlate_weights(g, x, gradient, bits(target));
    }
  }
  if (of_biases) {
    NDArray target = outputs[2];
    target.InvalidateMKLDNNData();
    sum_biases(g, gradient, bits(target));
  }
  if (of_map) {
    const Bits* w = plain(inputs[2], &weights);
    if (g.depthwise) depthwise_of(g).backward(gradient, as_floats(w, inputs[2].shape().Size()).data(), write(outputs[0]));
    else correlate_backward(g, gradient, w, write(outputs[0]));
  }
  return true;
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_CONVOLUTIONS_H_
