// ReLUs, sums, products and sigmoids of bfloat16 maps, each computed in float32 and rounded once.
#ifndef KERNELS_BFLOAT16_ELEMENTWISE_H_
#define KERNELS_BFLOAT16_ELEMENTWISE_H_

#include "bfloat16.h"
#include "elementwise.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

constexpr int64_t kRun = 4096;  // numbers that a thread takes at a time

// Calls `body(place, mask)` for each vector of `size` numbers, on all threads.
template <class Body>
void for_vectors(int64_t size, Body body) {
#pragma omp parallel for num_threads(threads()) if (size > kSmall)
  for (int64_t first = 0; first < size; first += kRun) {
    const int64_t last = std::min(first + kRun, size);
    int64_t k = first;
    for (; k <= last - kVector; k += kVector) body(k, 0xffff);
    if (k < last) body(k, lanes(last - k));
  }
}

// y = body(inputs...) for maps of one shape.
template <int count, class Body>
bool each(const Arrays& inputs, const Requests& requests, const NDArray& out, Body body) {
  if (!are_narrow(inputs) || !is_narrow(out) || !overwrites(requests)) return false;
  const mxnet::TShape& shape = out.shape();
  bool plain = true;
  for (int k = 0; k < count; ++k) {
    if (inputs[k].shape() != shape) return false;
    plain = plain && !inputs[k].IsMKLDNNData();
  }
  if (!plain && !takes(out)) return false;
  Buffer copies[count];
  const Bits* from[count];
  for (int k = 0; k < count; ++k) from[k] = plain ? bits(inputs[k]) : read(inputs[k], &copies[k]);
  if (plain) NDArray(out).InvalidateMKLDNNData();
  Bits* to = plain ? bits(out) : write(out);
  for_vectors(shape.Size(), [=](int64_t at, __mmask16 mask) {
    __m512 values[count];
    for (int k = 0; k < count; ++k) values[k] = load(from[k] + at, mask);
    store(to + at, body(values), mask);
  });
  return true;
}

inline bool is_relu(const NodeAttrs& attrs) { return argument(attrs, "act_type", "") == "relu"; }

inline __m512 sigmoid_of(__m512 x) {
  typedef Simd<kLanes> S;
  return (__m512)S::sigmoid((S::Floats)x);
}

inline bool activation(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                       const Arrays& outputs) {
  if (is_relu(attrs)) {
    // NaN stays NaN, as it does in oneDNN's: the maximum's second operand is what a comparison with NaN leaves.
    return each<1>(inputs, requests, outputs[0],
                   [](const __m512* x) { return _mm512_max_ps(_mm512_setzero_ps(), x[0]); });
  }
  return is_sigmoid(attrs) &&
         each<1>(inputs, requests, outputs[0], [](const __m512* x) { return sigmoid_of(x[0]); });
}

// (gradient, activation(x), ...) -> gradient of x
inline bool activation_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs,
                                const Requests& requests, const Arrays& outputs) {
  if (inputs.size() < 2) return false;
  if (is_relu(attrs)) {
    return each<2>(inputs, requests, outputs[0], [](const __m512* x) {
      return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x[1], _mm512_setzero_ps(), _CMP_GT_OQ), x[0]);
    });
  }
  return is_sigmoid(attrs) && each<2>(inputs, requests, outputs[0], [](const __m512* x) {
    return x[0] * x[1] * (_mm512_set1_ps(1.0f) - x[1]);
  });
}

inline bool clip(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                 const Arrays& outputs) {
  const __m512 low = _mm512_set1_ps(Bounds(attrs).low), high = _mm512_set1_ps(Bounds(attrs).high);
  // In this order NaN stays NaN.
  return each<1>(inputs, requests, outputs[0],
                 [=](const __m512* x) { return _mm512_min_ps(high, _mm512_max_ps(low, x[0])); });
}

// (gradient, x) -> gradient of x
inline bool clip_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                          const Arrays& outputs) {
  const __m512 low = _mm512_set1_ps(Bounds(attrs).low), high = _mm512_set1_ps(Bounds(attrs).high);
  return each<2>(inputs, requests, outputs[0], [=](const __m512* x) {
    const __mmask16 outside = _mm512_cmp_ps_mask(x[1], high, _CMP_GT_OQ) | _mm512_cmp_ps_mask(x[1], low, _CMP_LT_OQ);
    return _mm512_maskz_mov_ps(~outside, x[0]);
  });
}

inline bool sum(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                const Arrays& outputs) {
  return inputs.size() == 2 &&
         each<2>(inputs, requests, outputs[0], [](const __m512* x) { return x[0] + x[1]; });
}

inline bool product(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                    const Arrays& outputs) {
  return each<2>(inputs, requests, outputs[0], [](const __m512* x) { return x[0] * x[1]; });
}

// (gradient, a, b) -> (gradient of a, gradient of b); the former may overwrite the gradient.
inline bool product_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                             const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!are_narrow(inputs) || !are_narrow(outputs) || !overwrites(requests)) return false;
  if (!takes(outputs[0]) || !takes(outputs[1])) return false;
  Buffer copies[3];
  const Bits* from[3];
  for (int k = 0; k < 3; ++k) from[k] = read(inputs[k], &copies[k]);
  Bits *of_a = write(outputs[0]), *of_b = write(outputs[1]);
  for_vectors(shape.Size(), [=](int64_t at, __mmask16 mask) {
    const __m512 g = load(from[0] + at, mask), a = load(from[1] + at, mask), b = load(from[2] + at, mask);
    store(of_a + at, g * b, mask);
    store(of_b + at, g * a, mask);
  });
  return true;
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_ELEMENTWISE_H_
