// The arithmetic of 1x1 convolutions on pieces of maps that are in the cache: so many positions of one sample.
#ifndef KERNELS_POINTWISE_H_
#define KERNELS_POINTWISE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "simd.h"

namespace kernels {

constexpr int64_t kAtOnce = 8;  // positions, or channels of the other map, in registers

// A piece of a map in blocks of channels; `stride` is the number of positions between one block and the next.
template <class Number, int block>
struct InBlocks {
  Number* data;
  int64_t channels, stride;

  // The piece of a map that begins at a position of a sample.
  static InBlocks of(Number* map, int64_t channels, int64_t positions, int64_t sample, int64_t first) {
    return {map + sample * channels * positions + first * block, channels, positions};
  }
  Number* at(int64_t c, int64_t p) const { return data + c * stride + p * block; }  // c: the first of a block
  operator InBlocks<const Number, block>() const { return {data, channels, stride}; }
};

// A piece of a map whose channels lie side by side at each position; from one position to the next are `step` numbers.
template <class Number>
struct ByPosition {
  Number* data;
  int64_t channels, step;

  static ByPosition of(Number* map, int64_t channels, int64_t positions, int64_t sample, int64_t first) {
    return {map + (sample * positions + first) * channels, channels, channels};
  }
  Number* at(int64_t c, int64_t p) const { return data + p * step + c; }
  operator ByPosition<const Number>() const { return {data, channels, step}; }
};

// A piece as maps of this number lie: float32 in blocks, bfloat16 by position.
template <class Number, int block>
using Piece = std::conditional_t<std::is_same<std::remove_const_t<Number>, float>::value, InBlocks<Number, block>,
                                 ByPosition<Number>>;

// `project` at so many positions from `first` on.
template <int here, int block_in, int block_out, class To>
inline void project_some(int64_t first, InBlocks<const float, block_in> x, const float* weight, To y, bool add) {
  typedef Simd<block_out> S;
  for (int64_t o = 0; o < y.channels; o += block_out) {
    typename S::Floats sums[here] = {};
    for (int64_t c = 0; c < x.channels; c += block_in) {
      const float *from = x.at(c, first), *rows = weight + c * y.channels + o;
#pragma GCC unroll 2
      for (int lane = 0; lane < block_in; ++lane) {
        const typename S::Floats row = S::load(rows + lane * y.channels);
#pragma GCC unroll 8
        for (int p = 0; p < here; ++p) sums[p] += row * from[p * block_in + lane];
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < here; ++p) {
      auto* const to = y.at(o, first + p);
      S::store(to, add ? S::load(to) + sums[p] : sums[p]);
    }
  }
}

// y[o] = sum over c of weight[c][o] x[c], or that added to y.
template <int block_in, int block_out, class To>
void project(int64_t positions, InBlocks<const float, block_in> x, const float* weight, To y, bool add = false) {
  int64_t first = 0;
  for (; first + kAtOnce <= positions; first += kAtOnce) {
    project_some<kAtOnce, block_in, block_out>(first, x, weight, y, add);
  }
  for (; first + 2 <= positions; first += 2) project_some<2, block_in, block_out>(first, x, weight, y, add);
  for (; first < positions; ++first) project_some<1, block_in, block_out>(first, x, weight, y, add);
}

// Adds the sum over positions of a[i] b[j] to products[i][j].
template <int block_a, int block_b, class From>
void correlate(int64_t positions, InBlocks<const float, block_a> a, From b, float* products) {
  typedef Simd<block_b> S;
  for (int64_t i = 0; i < a.channels; i += kAtOnce) {
    const float* rows = a.at(i / block_a * block_a, 0) + i % block_a;
    for (int64_t j = 0; j < b.channels; j += block_b) {
      typename S::Floats sums[kAtOnce] = {};
      for (int64_t p = 0; p < positions; ++p) {
        const typename S::Floats lanes = S::load(b.at(j, p));
#pragma GCC unroll 8
        for (int k = 0; k < kAtOnce; ++k) sums[k] += lanes * rows[p * block_a + k];
      }
#pragma GCC unroll 8
      for (int k = 0; k < kAtOnce; ++k) {
        float* const to = products + (i + k) * b.channels + j;
        S::store(to, S::load(to) + sums[k]);
      }
    }
  }
}

// The pieces of one thread, of up to `most` positions, for the unit of atac_unit.h, and products of them.
template <int wide, int narrow>
class Pointwise {
 public:
  static constexpr int64_t kNear = 16384;  // numbers of a piece

  // A matrix (inputs, outputs).
  struct Weights {
    Weights(const float* matrix, int64_t inputs, int64_t outputs) : numbers(matrix, matrix + inputs * outputs) {}
    std::vector<float> numbers;
  };

  Pointwise(int64_t channels, int64_t width, int64_t most) : memory_(new float[most * (2 * width + channels)]) {
    hidden = {memory_.get(), width, most};
    other = {hidden.data + most * width, width, most};
    squeezed = other;
    logits = of_logits = {other.data + most * width, channels, most};
  }

  // A map's piece as products take it.
  InBlocks<const float, wide> rows(int64_t, InBlocks<const float, wide> x) const { return x; }

  template <int block_in, int block_out>
  void project(int64_t count, InBlocks<const float, block_in> x, const Weights& weights, InBlocks<float, block_out> y,
               bool add = false) const {
    kernels::project<block_in, block_out>(count, x, weights.numbers.data(), y, add);
  }

  // From one row of products to the next.
  static int64_t row(int64_t channels) { return channels; }
  static int64_t products(int64_t channels, int64_t width) { return channels * width; }

  void correlate(int64_t count, InBlocks<const float, narrow> a, InBlocks<const float, wide> b, float* products) const {
    kernels::correlate<narrow, wide>(count, a, b, products);
  }

  InBlocks<float, narrow> hidden, other, squeezed;  // the latter two replace one another, as do the next
  InBlocks<float, wide> logits, of_logits;

 private:
  const std::unique_ptr<float[]> memory_;
};

}  // namespace kernels

#endif  // KERNELS_POINTWISE_H_
