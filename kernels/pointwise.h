// The arithmetic of 1x1 convolutions on pieces of maps that are in the cache: so many positions of one sample, in
// blocks of channels. `stride` is the number of positions between one block of channels and the next.
#ifndef KERNELS_POINTWISE_H_
#define KERNELS_POINTWISE_H_

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace kernels {

constexpr int64_t kAtOnce = 8;  // positions, or channels of the other map, in registers

// A piece of a map.
template <class Float>
struct Piece {
  Float* data;
  int64_t channels, stride;
};

// y[o] = sum over c of weight[c][o] x[c], or that added to y.
template <int block_in, int block_out>
void project(int64_t positions, Piece<const float> x, const float* weight, Piece<float> y, bool add = false) {
  typedef Simd<block_out> S;
  typedef typename S::Floats Lanes;
  for (int64_t o = 0; o < y.channels; o += block_out) {
    for (int64_t first = 0; first < positions; first += kAtOnce) {
      const int64_t here = std::min(kAtOnce, positions - first);
      float* to = y.data + o * y.stride + first * block_out;
      Lanes sums[kAtOnce] = {};
      for (int64_t c = 0; c < x.channels; c += block_in) {
        const float* from = x.data + c * x.stride + first * block_in;
        for (int lane = 0; lane < block_in; ++lane) {
          const Lanes row = S::load(weight + (c + lane) * y.channels + o);
          if (here == kAtOnce) {
#pragma GCC unroll 8
            for (int p = 0; p < kAtOnce; ++p) sums[p] += row * from[p * block_in + lane];
          } else {
            for (int p = 0; p < here; ++p) sums[p] += row * from[p * block_in + lane];
          }
        }
      }
      for (int p = 0; p < here; ++p) {
        S::store(to + p * block_out, add ? S::load(to + p * block_out) + sums[p] : sums[p]);
      }
    }
  }
}

// Adds the sum over positions of a[i] b[j] to products[i * row + j * column].
template <int block_a, int block_b>
void correlate(int64_t positions, Piece<const float> a, Piece<const float> b, float* products, int64_t row,
               int64_t column) {
  typedef Simd<block_b> S;
  typedef typename S::Floats Lanes;
  for (int64_t i = 0; i < a.channels; i += kAtOnce) {
    const float* rows = a.data + i / block_a * block_a * a.stride + i % block_a;
    for (int64_t j = 0; j < b.channels; j += block_b) {
      const float* columns = b.data + j * b.stride;
      Lanes sums[kAtOnce] = {};
      for (int64_t p = 0; p < positions; ++p) {
        const Lanes lanes = S::load(columns + p * block_b);
#pragma GCC unroll 8
        for (int k = 0; k < kAtOnce; ++k) sums[k] += lanes * rows[p * block_a + k];
      }
      for (int k = 0; k < kAtOnce; ++k) {
        for (int lane = 0; lane < block_b; ++lane) products[(i + k) * row + (j + lane) * column] += sums[k][lane];
      }
    }
  }
}

}  // namespace kernels

#endif  // KERNELS_POINTWISE_H_
