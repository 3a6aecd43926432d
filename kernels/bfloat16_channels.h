// Operations of attention units on whole channels of bfloat16 maps: see channels.h. Sums are taken in float32.
#ifndef KERNELS_BFLOAT16_CHANNELS_H_
#define KERNELS_BFLOAT16_CHANNELS_H_

#include "bfloat16.h"
#include "channels.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

// Calls `body(sample, channel, mask)` for each vector of channels of each sample, on all threads.
template <class Body>
void for_sample_channels(const mxnet::TShape& shape, Body body) {
  const int64_t vectors = (shape[1] + kVector - 1) / kVector;
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t k = 0; k < shape[0] * vectors; ++k) {
    const int64_t c = k % vectors * kVector;
    body(k / vectors, c, lanes(shape[1] - c));
  }
}

// Sums over space in pieces, so that rounding errors do not grow with the map.
template <class Value>
__m512 sum_over_space(int64_t positions, Value value) {
  __m512 total = _mm512_setzero_ps();
  for (int64_t first = 0; first < positions; first += kPiece) {
    __m512 piece = _mm512_setzero_ps();
    for (int64_t p = first; p < std::min(positions, first + kPiece); ++p) piece += value(p);
    total += piece;
  }
  return total;
}

constexpr int64_t kRows = 256;  // positions that are added up in float32, before they are in float64

// The sums over all positions of two values for each channel, in float64 and in a fixed order. `add` gets a position's
// place and channels, and adds to two vectors.
template <class Add>
void channel_sums(int64_t positions, int64_t channels, double* first, double* second, Add add) {
  const int64_t pieces = (positions + kRows - 1) / kRows;
  const int64_t width = (channels + kVector - 1) / kVector * kVector;
  std::unique_ptr<float[]> parts(new float[2 * pieces * width]);
  float* const sums = parts.get();
#pragma omp parallel for num_threads(threads()) if (positions * channels > kSmall)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t last = std::min(positions, (piece + 1) * kRows);
    for (int64_t c = 0; c < channels; c += kVector) {
      const __mmask16 mask = lanes(channels - c);
      __m512 a = _mm512_setzero_ps(), b = a;
      for (int64_t p = piece * kRows; p < last; ++p) add(p * channels + c, c, mask, &a, &b);
      _mm512_storeu_ps(sums + 2 * piece * width + c, a);
      _mm512_storeu_ps(sums + (2 * piece + 1) * width + c, b);
    }
  }
#pragma omp parallel for num_threads(threads()) if (pieces * channels > kSmall)
  for (int64_t c = 0; c < channels; ++c) {
    double a = 0, b = 0;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      a += sums[2 * piece * width + c];
      b += sums[(2 * piece + 1) * width + c];
    }
    first[c] = a;
    second[c] = b;
  }
}

inline bool is_gate(const Arrays& inputs, const Requests& requests, const Arrays& outputs, const mxnet::TShape& map,
                    const mxnet::TShape& factor) {
  return are_narrow(inputs) && are_narrow(outputs) && overwrites(requests) && is_map(map) && is_factor(factor, map) &&
         area(map) > 1;
}

// y = x times the number of the channel and sample
inline bool scale_channels(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                           const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_gate(inputs, requests, outputs, shape, inputs[1].shape()) || !takes(outputs[0])) return false;
  Buffer copies[2];
  const Bits *x = read(inputs[0], &copies[0]), *factor = read(inputs[1], &copies[1]);
  Bits* y = write(outputs[0]);
  const int64_t positions = area(shape), channels = shape[1];
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const __m512 by = load(factor + n * channels + c, mask);
    for (int64_t at = n * positions * channels + c, p = 0; p < positions; ++p, at += channels) {
      store(y + at, load(x + at, mask) * by, mask);
    }
  });
  return true;
}

// (gradient, x, factor) -> (gradient of x, gradient of the factor)
inline bool scale_channels_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                    const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[1].shape();
  if (!is_gate(inputs, requests, outputs, shape, inputs[2].shape()) || inputs[0].shape() != shape) return false;
  if (!takes(outputs[0])) return false;
  Buffer copies[3];
  const Bits *gradient = read(inputs[0], &copies[0]), *x = read(inputs[1], &copies[1]);
  const Bits* factor = read(inputs[2], &copies[2]);
  Bits *of_x = write(outputs[0]), *of_factor = write(outputs[1]);
  const int64_t positions = area(shape), channels = shape[1];
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const __m512 by = load(factor + n * channels + c, mask);
    const int64_t first = n * positions * channels + c;
    const __m512 total = sum_over_space(positions, [=](int64_t p) {
      const int64_t at = first + p * channels;
      const __m512 g = load(gradient + at, mask), value = load(x + at, mask);
      store(of_x + at, g * by, mask);
      return g * value;
    });
    store(of_factor + n * channels + c, total, mask);
  });
  return true;
}

// y = x plus the number of the channel and sample
inline bool shift_channels(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                           const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_gate(inputs, requests, outputs, shape, inputs[1].shape()) || !takes(outputs[0])) return false;
  Buffer copies[2];
  const Bits *x = read(inputs[0], &copies[0]), *term = read(inputs[1], &copies[1]);
  Bits* y = write(outputs[0]);
  const int64_t positions = area(shape), channels = shape[1];
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const __m512 plus = load(term + n * channels + c, mask);
    for (int64_t at = n * positions * channels + c, p = 0; p < positions; ++p, at += channels) {
      store(y + at, load(x + at, mask) + plus, mask);
    }
  });
  return true;
}

// gradient -> (gradient of x, gradient of the term); the former may overwrite the gradient.
inline bool shift_channels_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                    const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_gate(inputs, requests, outputs, shape, outputs[1].shape()) || outputs[0].shape() != shape) return false;
  if (!takes(outputs[0])) return false;
  Buffer copy;
  const Bits* gradient = read(inputs[0], &copy);
  Bits *of_x = write(outputs[0]), *of_term = write(outputs[1]);
  const int64_t positions = area(shape), channels = shape[1];
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const int64_t first = n * positions * channels + c;
    const __m512 total = sum_over_space(positions, [=](int64_t p) {
      const __m512 g = load(gradient + first + p * channels, mask);
      store(of_x + first + p * channels, g, mask);
      return g;
    });
    store(of_term + n * channels + c, total, mask);
  });
  return true;
}

inline bool global_mean(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                        const Arrays& outputs) {
  const mxnet::TShape& shape = inputs[0].shape();
  if (!is_gate(inputs, requests, outputs, shape, outputs[0].shape())) return false;
  Buffer copy;
  const Bits* x = read(inputs[0], &copy);
  Bits* y = write(outputs[0]);
  const int64_t positions = area(shape), channels = shape[1];
  const __m512 share = _mm512_set1_ps(1.0f / positions);
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const Bits* from = x + n * positions * channels + c;
    const __m512 total = sum_over_space(positions, [=](int64_t p) { return load(from + p * channels, mask); });
    store(y + n * channels + c, total * share, mask);
  });
  return true;
}

inline bool global_mean_backward(const NodeAttrs&, const OpContext&, const Arrays& inputs, const Requests& requests,
                                 const Arrays& outputs) {
  const mxnet::TShape& shape = outputs[0].shape();
  if (!is_gate({inputs[0]}, requests, outputs, shape, inputs[0].shape()) || !takes(outputs[0])) return false;
  Buffer copy;
  const Bits* gradient = read(inputs[0], &copy);
  Bits* of_x = write(outputs[0]);
  const int64_t positions = area(shape), channels = shape[1];
  const __m512 share = _mm512_set1_ps(1.0f / positions);
  for_sample_channels(shape, [=](int64_t n, int64_t c, __mmask16 mask) {
    const __m512 value = load(gradient + n * channels + c, mask) * share;
    for (int64_t p = 0; p < positions; ++p) store(of_x + (n * positions + p) * channels + c, value, mask);
  });
  return true;
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_CHANNELS_H_
