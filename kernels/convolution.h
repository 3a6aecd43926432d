// Convolutions of a training step and their gradients, where ours are faster than oneDNN's.
//
// Which calls these are follows from their shapes alone, so that a run computes the same when it is resumed, on another
// day or beside other work. Predictions are MXNet's.
#ifndef KERNELS_CONVOLUTION_H_
#define KERNELS_CONVOLUTION_H_

#include <cctype>
#include <cstdlib>

#include "depthwise.h"
#include "fused.h"
#include "winograd.h"

namespace kernels {

// The numbers of an argument like "(3, 3)"; `otherwise` twice if it is not given.
inline std::vector<int> numbers(const NodeAttrs& attrs, const char* key, int otherwise) {
  const std::string text = argument(attrs, key, "");
  std::vector<int> found;
  for (const char* at = text.c_str(); *at != '\0';) {
    char* end = nullptr;
    const long number = std::isdigit(static_cast<unsigned char>(*at)) ? std::strtol(at, &end, 10) : 0;
    if (end != nullptr) found.push_back(static_cast<int>(number));
    at = end != nullptr ? end : at + 1;
  }
  return found.empty() ? std::vector<int>{otherwise, otherwise} : found;
}

inline bool is_3x3(const NodeAttrs& attrs) {
  const std::string layout = argument(attrs, "layout", "None");
  const auto are = [&](const char* key, int otherwise, int wanted) {
    return numbers(attrs, key, otherwise) == std::vector<int>{wanted, wanted};
  };
  return are("kernel", 0, 3) && are("stride", 1, 1) && are("pad", 0, 1) && are("dilate", 1, 1) &&
         argument(attrs, "num_group", "1") == "1" && (layout == "None" || layout == "NCHW");
}

// A convolution (samples, inputs, height, width) -> (samples, outputs, height, width).
struct ConvolutionSize {
  int64_t inputs, outputs;
  winograd::Maps maps;

  ConvolutionSize(const NDArray& x, const NDArray& y)
      : inputs(x.shape()[1]), outputs(y.shape()[1]), maps{x.shape()[0], x.shape()[2], x.shape()[3]} {}

  // Whether the transforms pay: not with few tiles for many weights, nor on small maps, whose tiles are full of border.
  bool pays() const {
    const int64_t tiles = maps.tiles();
    return tiles >= (inputs * outputs <= winograd::kFew ? 32 : 128) &&
           2 * maps.samples * maps.positions() >= tiles * winograd::kOut * winograd::kOut;
  }
  bool fits(const NDArray& weight) const {
    return block_of(inputs) == L && block_of(outputs) == L && pays() &&
           weight.shape() == mxnet::TShape({outputs, inputs, 3, 3});
  }
};

typedef depthwise::Convolution<depthwise::InBlocks<L>> DepthwiseConvolution;

// Whether a convolution is a depthwise one without bias, of maps in blocks, with kernels that we have; what it is.
inline bool is_depthwise(const NodeAttrs& attrs, const NDArray& x, const NDArray& weight, const NDArray& y,
                         depthwise::Size* found) {
  const mxnet::TShape &from = x.shape(), &to = y.shape();
  const std::string layout = argument(attrs, "layout", "None");
  if (from.ndim() != 4 || from.Size() == 0 || to.Size() == 0 || (layout != "None" && layout != "NCHW")) return false;
  const auto stride = numbers(attrs, "stride", 1), dilate = numbers(attrs, "dilate", 1), pad = numbers(attrs, "pad", 0);
  const int64_t groups = std::atoll(argument(attrs, "num_group", "1").c_str());
  if (!depthwise::is_kernel(weight.shape(), from[1], groups) || block_of(from[1]) != L) return false;
  if (stride[0] != stride[1] || dilate != std::vector<int>{1, 1} || std::max(pad[0], pad[1]) >= weight.shape()[2]) return false;
  *found = {from[0], from[1], from[2], from[3], to[2], to[3], weight.shape()[2], stride[0], pad[0], pad[1]};
  return true;
}

inline NDArray plain(const NDArray& array) { return array.IsMKLDNNData() ? array.Reorder2Default() : array; }

// (x, weight) -> y
inline bool convolution(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                        const Requests& requests, const Arrays& outputs) {
  if (!context.is_train || inputs.size() != 2 || !dense_float32(inputs) || !dense_float32(outputs)) return false;
  if (inputs[0].shape().ndim() != 4 || requests[0] == mxnet::kNullOp) return false;
  const ConvolutionSize size(inputs[0], outputs[0]);
  depthwise::Size apart;
  const bool is_apart = is_depthwise(attrs, inputs[0], inputs[1], outputs[0], &apart);
  if (!is_apart && !(is_3x3(attrs) && size.fits(inputs[1]))) return false;
  std::vector<float> copy;
  const NDArray weight = plain(inputs[1]);
  const float* x = in_layout(inputs[0], L, &copy);
  MapResult y(outputs[0], requests[0], L);
  if (is_apart) DepthwiseConvolution(apart).forward(x, pointer(weight), nullptr, y.data());
  else winograd::convolve(size.maps, size.inputs, size.outputs, x, pointer(weight), false, y.data());
  y.deliver();
  return true;
}

// (gradient, x, weight) -> gradients of x and weight
inline bool convolution_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs,
                                 const Requests& requests, const Arrays& outputs) {
  if (inputs.size() != 3 || !dense_float32(inputs) || !dense_float32(outputs)) return false;
  if (inputs[1].shape().ndim() != 4) return false;
  const ConvolutionSize size(inputs[1], inputs[0]);
  depthwise::Size apart;
  const bool is_apart = is_depthwise(attrs, inputs[1], inputs[2], inputs[0], &apart);
  if (!is_apart && !(is_3x3(attrs) && size.fits(inputs[2]))) return false;
  std::vector<float> gradient_copy, x_copy;
  const float* gradient = in_layout(inputs[0], L, &gradient_copy);
  const NDArray weight = plain(inputs[2]);
  if (requests[1] != mxnet::kNullOp) {
    const float* x = in_layout(inputs[1], L, &x_copy);
    std::vector<float> of_weight(weight.shape().Size());
    if (is_apart) of_weight = DepthwiseConvolution(apart).of_weights(x, gradient);
    else winograd::WeightGradient(size.maps, size.inputs, size.outputs, x, gradient).run(of_weight.data());
    deliver(of_weight, outputs[1], requests[1]);
  }
  if (requests[0] != mxnet::kNullOp) {
    MapResult of_x(outputs[0], requests[0], L);
    if (is_apart) DepthwiseConvolution(apart).backward(gradient, pointer(weight), of_x.data());
    else winograd::convolve(size.maps, size.outputs, size.inputs, gradient, pointer(weight), true, of_x.data());
    of_x.deliver();
  }
  return true;
}

}  // namespace kernels

#endif  // KERNELS_CONVOLUTION_H_
