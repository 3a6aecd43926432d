// The ATAC unit as one operator, `_atac`, with its gradient.
//
// Inputs: x (N, C, H, W), W1 (width, C, 1, 1), gamma1, beta1, mean1, variance1, W2 (C, width, 1, 1), gamma2, beta2,
// mean2, variance2; the means and variances are running ones. Outputs: y; what the gradient needs; the batch's means and
// inverse deviations. Arguments: width, relu, and the norms' epsilon and momentum. As with MXNet's batch norm, the
// running statistics are updated in the backward pass. Maps may be bfloat16; the parameters and all sums are float32.
#ifndef KERNELS_ATAC_H_
#define KERNELS_ATAC_H_

#include <cmath>
#include <cstdlib>

#include "atac_unit.h"
#include "bfloat16_pointwise.h"
#include "fused.h"

namespace kernels {

// The parameters of the unit in a call of the operator.
struct AtacCall {
  AtacSize size;
  bool relu;
  double epsilon;
  float momentum;

  AtacCall(const NodeAttrs& attrs, const mxnet::TShape& map)
      : size{map[0], map[1], std::atoi(argument(attrs, "width", "0").c_str()), map[2] * map[3]},
        relu(argument(attrs, "relu", "1") == "1"),
        epsilon(std::atof(argument(attrs, "epsilon", "1e-5").c_str())),
        momentum(static_cast<float>(std::atof(argument(attrs, "momentum", "0.9").c_str()))) {}
};

// The unit for maps of this number: bfloat16 is for tiles.
template <class Number, int wide, int inner>
struct AtacProducts {
  typedef Pointwise<wide, inner> Type;
};
#ifdef KERNELS_HAVE_TILES
template <int wide, int inner>
struct AtacProducts<narrow::Bits, wide, inner> {
  typedef narrow::TilePointwise<wide, inner> Type;
};
#endif
template <class Number, int wide, int inner>
using AtacUnitOf = AtacUnit<Number, typename AtacProducts<Number, wide, inner>::Type, wide, inner>;

template <class Body>
void with_blocks(const AtacSize& size, Body body) {
  typedef std::integral_constant<int, 8> Eight;
  typedef std::integral_constant<int, 16> Sixteen;
  const int wide = block_of(size.channels), narrow = block_of(size.width);
  CHECK(wide != 0 && narrow != 0) << "_atac: " << size.channels << " and " << size.width
                                  << " channels; allowed are multiples of 8";
  if (wide == 16) {
    narrow == 16 ? body(Sixteen(), Sixteen()) : body(Sixteen(), Eight());
  } else {
    narrow == 16 ? body(Eight(), Sixteen()) : body(Eight(), Eight());
  }
}

// The parameters in the order of the forward pass, in plain layout, and the norms that they form with given statistics.
struct AtacParameters {
  std::vector<NDArray> plain;
  const float *weight1, *gamma1, *beta1, *weight2, *gamma2, *beta2;

  explicit AtacParameters(const Arrays& six) {
    for (const NDArray& array : six) plain.push_back(array.IsMKLDNNData() ? array.Reorder2Default() : array);
    weight1 = pointer(plain[0]), gamma1 = pointer(plain[1]), beta1 = pointer(plain[2]);
    weight2 = pointer(plain[3]), gamma2 = pointer(plain[4]), beta2 = pointer(plain[5]);
  }
  Norm norm1(const AtacSize& size, const float* mean, const float* inverse) const {
    return Norm(size.width, gamma1, beta1, mean, inverse);
  }
  Norm norm2(const AtacSize& size, const float* mean, const float* inverse) const {
    return Norm(size.channels, gamma2, beta2, mean, inverse);
  }
};

inline std::vector<float> inverse_deviations(const NDArray& variances, double epsilon) {
  std::vector<float> inverse(variances.shape()[0]);
  const float* from = pointer(variances);
  for (size_t c = 0; c < inverse.size(); ++c) inverse[c] = static_cast<float>(1 / std::sqrt(from[c] + epsilon));
  return inverse;
}

// What is kept for the gradient is of the maps' numbers.
template <class Number>
Number* kept_in(const NDArray& array) {
  return reinterpret_cast<Number*>(pointer(array));
}

template <class Number>
void atac_forward(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays, const Requests& requests,
                  const Arrays& outputs) {
  const Arrays inputs = inputs_of("_atac", arrays, outputs);
  const AtacCall call(attrs, inputs[0].shape());
  const AtacSize& size = call.size;
  with_blocks(size, [&](auto wide, auto narrow) {
    constexpr int block = decltype(wide)::value;
    const typename Maps<Number>::Input x(inputs[0], block);
    const AtacParameters given({inputs[1], inputs[2], inputs[3], inputs[6], inputs[7], inputs[8]});
    const AtacUnitOf<Number, block, decltype(narrow)::value> unit(size, call.relu, x.data, given.weight1, given.weight2);
    typename Maps<Number>::Result y(outputs[0], requests[0], block);
    if (context.is_train) {
      output(outputs[1], kPlain);
      float *mean1 = output(outputs[2], kPlain), *inverse1 = mean1 + size.width, *mean2 = inverse1 + size.width;
      float* inverse2 = mean2 + size.channels;
      unit.train(call.epsilon, given.gamma1, given.beta1, given.gamma2, given.beta2, kept_in<Number>(outputs[1]), mean1,
                 inverse1, mean2, inverse2, y.data());
    } else {
      const std::vector<float> inverse1 = inverse_deviations(inputs[5], call.epsilon);
      const std::vector<float> inverse2 = inverse_deviations(inputs[10], call.epsilon);
      unit.infer(given.norm1(size, pointer(inputs[4]), inverse1.data()),
                 given.norm2(size, pointer(inputs[9]), inverse2.data()), y.data());
    }
    y.deliver();
  });
}

inline void follow(const NDArray& mean, const NDArray& variance, const float* batch_mean, const float* inverse,
                   const AtacCall& call) {
  float *means = pointer(mean), *variances = pointer(variance);
  for (int64_t c = 0; c < mean.shape()[0]; ++c) {
    const double deviation = 1.0 / inverse[c];
    const float batch_variance = static_cast<float>(deviation * deviation - call.epsilon);
    means[c] = means[c] * call.momentum + batch_mean[c] * (1 - call.momentum);
    variances[c] = variances[c] * call.momentum + batch_variance * (1 - call.momentum);
  }
}

// (gradient, x, W1, gamma1, beta1, W2, gamma2, beta2, what was kept, statistics, mean1, variance1, mean2, variance2) ->
// gradients of x, W1, gamma1, beta1, W2, gamma2, beta2
template <class Number>
void atac_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& arrays, const Requests& requests,
                   const Arrays& outputs) {
  const Arrays inputs = inputs_of("_atac", arrays, outputs);
  const AtacCall call(attrs, inputs[1].shape());
  const AtacSize& size = call.size;
  with_blocks(size, [&](auto wide, auto narrow) {
    constexpr int block = decltype(wide)::value;
    std::vector<Number> kept_again;
    const typename Maps<Number>::Input gradient(inputs[0], block), x(inputs[1], block);
    const AtacParameters given(Arrays(inputs.begin() + 2, inputs.begin() + 8));
    const AtacUnitOf<Number, block, decltype(narrow)::value> unit(size, call.relu, x.data, given.weight1, given.weight2);
    const Number* kept = kept_in<Number>(inputs[8]);
    const float *mean1 = pointer(inputs[9]), *inverse1 = mean1 + size.width, *mean2 = inverse1 + size.width;
    const float* inverse2 = mean2 + size.channels;
    std::vector<float> running1, running2;
    if (!context.is_train) {  // the forward pass left nothing
      running1 = inverse_deviations(inputs[11], call.epsilon);
      running2 = inverse_deviations(inputs[13], call.epsilon);
      mean1 = pointer(inputs[10]), inverse1 = running1.data(), mean2 = pointer(inputs[12]), inverse2 = running2.data();
      kept_again.resize(size.kept());
      unit.keep(given.norm1(size, mean1, inverse1), kept_again.data());
      kept = kept_again.data();
    }
    typename Maps<Number>::Result of_x(outputs[0], requests[0], block);
    const auto gradients = unit.backward(given.norm1(size, mean1, inverse1), given.norm2(size, mean2, inverse2),
                                         context.is_train, kept, gradient.data, of_x.data());
    of_x.deliver();
    deliver(gradients.weight1, outputs[1], requests[1]);
    deliver(gradients.gamma1, outputs[2], requests[2]);
    deliver(gradients.beta1, outputs[3], requests[3]);
    deliver(gradients.weight2, outputs[4], requests[4]);
    deliver(gradients.gamma2, outputs[5], requests[5]);
    deliver(gradients.beta2, outputs[6], requests[6]);
    if (context.is_train && size.count() > 0) {
      follow(inputs[10], inputs[11], mean1, inverse1, call);
      follow(inputs[12], inputs[13], mean2, inverse2, call);
    }
  });
}

// What is kept is of the maps' type where there are tiles; without them bfloat16 maps are widened as a whole.
inline bool atac_types(const NodeAttrs& attrs, std::vector<int>* inputs, std::vector<int>* outputs) {
  bool like_maps = false;
#ifdef KERNELS_HAVE_TILES
  like_maps = narrow::has_tiles();
#endif
  return like_maps ? map_types<false, 2>(attrs, inputs, outputs) : map_types<false>(attrs, inputs, outputs);
}

inline bool atac_shapes(const NodeAttrs& attrs, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0];
  if (!mxnet::shape_is_known(map)) return false;
  CHECK_EQ(map.ndim(), 4) << "_atac: x is (N, C, H, W)";
  const AtacSize size = AtacCall(attrs, map).size;
  const mxnet::TShape narrow({size.width}), wide({size.channels});
  const mxnet::ShapeVector expected = {
      map,  mxnet::TShape({size.width, size.channels, 1, 1}), narrow, narrow, narrow, narrow,
      mxnet::TShape({size.channels, size.width, 1, 1}),       wide,   wide,   wide,   wide};
  take_shapes("_atac", expected, inputs);
  *outputs = {map, mxnet::TShape({1, 1, 1, size.kept()}), mxnet::TShape({2 * (size.width + size.channels)})};
  return true;
}

}  // namespace kernels

#endif  // KERNELS_ATAC_H_
