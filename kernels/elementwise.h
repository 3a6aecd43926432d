// Products, sigmoids and sums of arrays that share a shape and a layout, whichever it is.
//
// MXNet has no oneDNN kernel for the product: it copies both maps out of oneDNN's layout, and the next convolution copies
// the result back. oneDNN's sigmoid recomputes the exponential for its gradient, and its sum takes twice as long as the
// memory traffic requires.
#ifndef KERNELS_ELEMENTWISE_H_
#define KERNELS_ELEMENTWISE_H_

#include "layout.h"
#include "simd.h"

namespace kernels {

typedef std::vector<float*> Pointers;

template <class Loop>
bool elementwise(const Arrays& inputs, const Requests& requests, const Arrays& outputs, Loop loop) {
  if (!dense_float32(inputs) || !overwrites(requests)) return false;
  const int block = layout(inputs[0]);
  if (block == kUnknown || !take(outputs, block)) return false;
  Pointers from, to;
  for (const NDArray& array : inputs) {
    if (layout(array) != block || array.shape() != inputs[0].shape()) return false;
    from.push_back(pointer(array));
  }
  for (const NDArray& array : outputs) to.push_back(output(array, block));
  loop(from, to, static_cast<int64_t>(inputs[0].shape().Size()));
  return true;
}

constexpr int kLanes = 16;

inline bool product(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                    const Arrays& outputs) {
  return elementwise(inputs, requests, outputs, [](const Pointers& from, const Pointers& to, int64_t size) {
    const float *a = from[0], *b = from[1];
    float* y = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
    for (int64_t k = 0; k < size; ++k) y[k] = a[k] * b[k];
  });
}

// (gradient, a, b) -> (gradient of a, gradient of b); the latter may overwrite the gradient.
inline bool product_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                             const Arrays& outputs) {
  return elementwise(inputs, requests, outputs, [](const Pointers& from, const Pointers& to, int64_t size) {
    const float *gradient = from[0], *a = from[1], *b = from[2];
    float *of_a = to[0], *of_b = to[1];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
    for (int64_t k = 0; k < size; ++k) {
      const float g = gradient[k], for_a = g * b[k], for_b = g * a[k];
      of_a[k] = for_a;
      of_b[k] = for_b;
    }
  });
}

inline bool is_sigmoid(const NodeAttrs& attrs) { return argument(attrs, "act_type", "") == "sigmoid"; }

inline bool sigmoid(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                    const Arrays& outputs) {
  return is_sigmoid(attrs) &&
         elementwise(inputs, requests, outputs, [](const Pointers& from, const Pointers& to, int64_t size) {
           const float* x = from[0];
           float* y = to[0];
           typedef Simd<kLanes> S;
#pragma omp parallel for num_threads(threads()) if (size > kSmall)
           for (int64_t k = 0; k <= size - kLanes; k += kLanes) S::store(y + k, S::sigmoid(S::load(x + k)));
           float rest[kLanes] = {};
           const int64_t done = size / kLanes * kLanes;
           std::copy(x + done, x + size, rest);
           S::store(rest, S::sigmoid(S::load(rest)));
           std::copy(rest, rest + (size - done), y + done);
         });
}

// (gradient, sigmoid(x), x) -> gradient of x
inline bool sigmoid_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                             const Arrays& outputs) {
  return is_sigmoid(attrs) && elementwise({inputs[0], inputs[1]}, requests, outputs,
                                          [](const Pointers& from, const Pointers& to, int64_t size) {
                                            const float *gradient = from[0], *s = from[1];
                                            float* of_x = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
                                            for (int64_t k = 0; k < size; ++k) {
                                              of_x[k] = gradient[k] * s[k] * (1.0f - s[k]);
                                            }
                                          });
}

// A maximum with 0, and its gradient from the output. oneDNN computes a gradient that is to replace the one above elsewhere,
// and MXNet copies it.
inline bool is_relu(const NodeAttrs& attrs) { return argument(attrs, "act_type", "") == "relu"; }

inline bool relu(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                 const Arrays& outputs) {
  return is_relu(attrs) &&
         elementwise(inputs, requests, outputs, [](const Pointers& from, const Pointers& to, int64_t size) {
           const float* x = from[0];
           float* y = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
           for (int64_t k = 0; k < size; ++k) y[k] = x[k] < 0.0f ? 0.0f : x[k];
         });
}

// (gradient, relu(x)) -> gradient of x
inline bool relu_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                          const Arrays& outputs) {
  return is_relu(attrs) && elementwise({inputs[0], inputs[1]}, requests, outputs,
                                       [](const Pointers& from, const Pointers& to, int64_t size) {
                                         const float *gradient = from[0], *y = from[1];
                                         float* of_x = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
                                         for (int64_t k = 0; k < size; ++k) {
                                           of_x[k] = y[k] > 0.0f ? gradient[k] : 0.0f;
                                         }
                                       });
}

// The kernels of `Activation` and its gradient: the first that accepts the call.
inline bool activation(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs, const Requests& requests,
                       const Arrays& outputs) {
  return relu(attrs, context, inputs, requests, outputs) || sigmoid(attrs, context, inputs, requests, outputs);
}

inline bool activation_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                                const Requests& requests, const Arrays& outputs) {
  return relu_backward(attrs, context, inputs, requests, outputs) ||
         sigmoid_backward(attrs, context, inputs, requests, outputs);
}

// Numbers between two bounds, as ReLU6 has them. Its gradient is that above where x is within them, the bounds included.
struct Bounds {
  explicit Bounds(const NodeAttrs& attrs)
      : low(std::strtof(argument(attrs, "a_min", "0").c_str(), nullptr)),
        high(std::strtof(argument(attrs, "a_max", "0").c_str(), nullptr)) {}
  const float low, high;
};

inline bool clip(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                 const Arrays& outputs) {
  const Bounds bounds(attrs);
  return elementwise(inputs, requests, outputs, [=](const Pointers& from, const Pointers& to, int64_t size) {
    const float *x = from[0], low = bounds.low, high = bounds.high;
    float* y = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
    for (int64_t k = 0; k < size; ++k) {
      const float below = x[k] > high ? high : x[k];
      y[k] = x[k] < low ? low : below;
    }
  });
}

// (gradient, x) -> gradient of x
inline bool clip_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                          const Arrays& outputs) {
  const Bounds bounds(attrs);
  return elementwise(inputs, requests, outputs, [=](const Pointers& from, const Pointers& to, int64_t size) {
    const float *gradient = from[0], *x = from[1], low = bounds.low, high = bounds.high;
    float* of_x = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
    for (int64_t k = 0; k < size; ++k) {
      const float above = x[k] > high ? 0.0f : gradient[k];
      of_x[k] = x[k] < low ? 0.0f : above;
    }
  });
}

inline bool sum(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                const Arrays& outputs) {
  return inputs.size() == 2 &&
         elementwise(inputs, requests, outputs, [](const Pointers& from, const Pointers& to, int64_t size) {
           const float *a = from[0], *b = from[1];
           float* y = to[0];
#pragma omp parallel for simd num_threads(threads()) if (parallel : size > kSmall)
           for (int64_t k = 0; k < size; ++k) y[k] = a[k] + b[k];
         });
}

}  // namespace kernels

#endif  // KERNELS_ELEMENTWISE_H_
