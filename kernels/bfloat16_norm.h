// Batch norm of bfloat16 maps in training: its statistics, parameters and their gradients are float32.
//
// oneDNN's needs map and gradient in one layout, and takes a hundred times as long where they differ.
#ifndef KERNELS_BFLOAT16_NORM_H_
#define KERNELS_BFLOAT16_NORM_H_

#include <cmath>

#include "bfloat16_channels.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

inline bool is_batch_norm(const NodeAttrs& attrs, const OpContext& context, const NDArray& data) {
  const auto is = [&](const char* key, const char* otherwise, const char* wanted) {
    return argument(attrs, key, otherwise) == wanted;
  };
  const auto off = [&](const char* key, const char* otherwise) {
    const std::string value = argument(attrs, key, otherwise);
    return value == "False" || value == "false" || value == "0";
  };
  return context.is_train && is_narrow(data) && data.shape().ndim() == 4 && off("fix_gamma", "True") &&
         off("use_global_stats", "False") && is("axis", "1", "1");
}

inline double number(const NodeAttrs& attrs, const char* key, const char* otherwise) {
  return std::stod(argument(attrs, key, otherwise));
}

// Calls `body(place, channel, mask)` for each vector of a map.
template <class Body>
void for_channels(int64_t positions, int64_t channels, Body body) {
  const int64_t pieces = (positions + kRows - 1) / kRows;
#pragma omp parallel for num_threads(threads()) if (positions * channels > kSmall)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t last = std::min(positions, (piece + 1) * kRows);
    for (int64_t p = piece * kRows; p < last; ++p) {
      for (int64_t c = 0; c < channels; c += kVector) body(p * channels + c, c, lanes(channels - c));
    }
  }
}

// (map, gamma, beta, running mean, running variance) -> (map, mean, 1 / deviation)
inline bool batch_norm(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                       const Requests& requests, const Arrays& outputs) {
  const NDArray& data = inputs[0];
  if (!is_batch_norm(attrs, context, data) || !overwrites({requests[0]}) || !takes(outputs[0])) return false;
  const mxnet::TShape& shape = data.shape();
  const int64_t channels = shape[1], positions = shape[0] * area(shape);
  const double epsilon = number(attrs, "eps", "0.001");
  Buffer copy;
  const Bits* x = read(data, &copy);
  const float *gamma = pointer(inputs[1]), *beta = pointer(inputs[2]);
  float *mean = pointer(outputs[1]), *inverse = pointer(outputs[2]);
  std::vector<double> first(channels), second(channels);
  std::vector<float> pivot(channels + kVector), scale(channels + kVector), shift(channels + kVector);
  for (int64_t c = 0; c < channels; c += kVector) {
    _mm512_storeu_ps(pivot.data() + c, load(x + c, lanes(channels - c)));
  }
  // From the first position's numbers, so that a large mean costs no digits of the variance.
  const float* from = pivot.data();
  channel_sums(positions, channels, first.data(), second.data(),
               [=](int64_t at, int64_t c, __mmask16 mask, __m512* a, __m512* b) {
                 const __m512 apart = load(x + at, mask) - _mm512_loadu_ps(from + c);
                 *a += apart;
                 *b += apart * apart;
               });
  for (int64_t c = 0; c < channels; ++c) {
    const double apart = first[c] / positions, variance = std::max(0.0, second[c] / positions - apart * apart);
    mean[c] = float(pivot[c] + apart);
    inverse[c] = float(1 / std::sqrt(variance + epsilon));
    scale[c] = gamma[c] * inverse[c];
    shift[c] = float(beta[c] - double(scale[c]) * (pivot[c] + apart));
  }
  Bits* y = write(outputs[0]);
  const float *a = scale.data(), *b = shift.data();
  for_channels(positions, channels, [=](int64_t at, int64_t c, __mmask16 mask) {
    store(y + at, _mm512_fmadd_ps(load(x + at, mask), _mm512_loadu_ps(a + c), _mm512_loadu_ps(b + c)), mask);
  });
  return true;
}

// Moves the running statistics, as MXNet does in the backward pass.
inline void move_statistics(const NodeAttrs& attrs, const Arrays& inputs, int64_t channels) {
  const float momentum = float(number(attrs, "momentum", "0.9")), epsilon = float(number(attrs, "eps", "0.001"));
  const float *mean = pointer(inputs[1]), *inverse = pointer(inputs[2]);
  float *running_mean = pointer(inputs[6]), *running_variance = pointer(inputs[7]);
  for (int64_t c = 0; c < channels; ++c) {
    const float variance = 1.0f / (inverse[c] * inverse[c]) - epsilon;
    running_mean[c] = running_mean[c] * momentum + mean[c] * (1.0f - momentum);
    running_variance[c] = running_variance[c] * momentum + variance * (1.0f - momentum);
  }
}

// (gradient, mean, 1 / deviation, map, gamma, beta, running mean, running variance) -> (gradient of the map, of gamma,
// of beta); the first may overwrite the gradient.
inline bool batch_norm_backward(const NodeAttrs& attrs, const OpContext& context, const Arrays& inputs,
                                const Requests& requests, const Arrays& outputs) {
  if (inputs.size() != 8 || !is_batch_norm(attrs, context, inputs[3]) || !is_narrow(inputs[0])) return false;
  if (!overwrites({requests[0]}) || !takes(outputs[0])) return false;
  for (int k : {1, 2}) {
    if (requests[k] == mxnet::kAddTo) return false;
  }
  const mxnet::TShape& shape = inputs[3].shape();
  const int64_t channels = shape[1], positions = shape[0] * area(shape);
  Buffer copies[2];
  const Bits *g = read(inputs[0], &copies[0]), *x = read(inputs[3], &copies[1]);
  const int64_t width = channels + kVector;
  std::vector<float> values(5 * width);
  float *mean = values.data(), *a = mean + width, *b = a + width, *d = b + width;
  std::memcpy(mean, pointer(inputs[1]), channels * sizeof(float));
  const float *inverse = pointer(inputs[2]), *gamma = pointer(inputs[4]);
  std::vector<double> first(channels), second(channels);
  channel_sums(positions, channels, first.data(), second.data(),
               [=](int64_t at, int64_t c, __mmask16 mask, __m512* sum, __m512* product) {
                 const __m512 gradient = load(g + at, mask);
                 *sum += gradient;
                 *product += gradient * (load(x + at, mask) - _mm512_loadu_ps(mean + c));
               });
  // The gradient of x is a g + b x + d.
  for (int64_t c = 0; c < channels; ++c) {
    const double squared = double(inverse[c]) * inverse[c];
    a[c] = gamma[c] * inverse[c];
    b[c] = float(-a[c] * squared * second[c] / positions);
    d[c] = float(-a[c] * first[c] / positions - double(b[c]) * mean[c]);
  }
  if (requests[1] != mxnet::kNullOp) {
    for (int64_t c = 0; c < channels; ++c) pointer(outputs[1])[c] = float(second[c] * inverse[c]);
  }
  if (requests[2] != mxnet::kNullOp) {
    for (int64_t c = 0; c < channels; ++c) pointer(outputs[2])[c] = float(first[c]);
  }
  move_statistics(attrs, inputs, channels);
  Bits* to = write(outputs[0]);
  for_channels(positions, channels, [=](int64_t at, int64_t c, __mmask16 mask) {
    const __m512 term = _mm512_fmadd_ps(load(x + at, mask), _mm512_loadu_ps(b + c), _mm512_loadu_ps(d + c));
    store(to + at, _mm512_fmadd_ps(load(g + at, mask), _mm512_loadu_ps(a + c), term), mask);
  });
  return true;
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_NORM_H_
