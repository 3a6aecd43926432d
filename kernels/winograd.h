// 3x3 convolutions of stride 1 with a border of 1, and their gradients, by Winograd's minimal filtering F(4,3).
//
// Tiles of 6 x 6 inputs give 4 x 4 outputs. Inputs are transformed by B' d B, multiplied with the transformed weights
// G w G' for each of the 36 elements, which are 1x1 convolutions, and brought back by A' m A. The gradient of the input
// is such a convolution of the output's gradient, with the weights turned. The gradient of the weights is what the
// transposed transforms give: tiles of the output's gradient by A g A', their products with the transformed inputs,
// summed over all tiles, and G' s G of the sums. Each takes a quarter of the multiplications of the direct way.
//
// Threads take ranges of tiles, in the order of samples; the sums of the weights' gradient, which each thread has of its
// own, are added in the order of threads.
#ifndef KERNELS_WINOGRAD_H_
#define KERNELS_WINOGRAD_H_

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "shared/products.h"
#include "shared/winograd_transforms.h"
#include "threads.h"

namespace kernels {
namespace winograd {

constexpr int kOut = 4, kTile = kOut + 2, kElements = kTile * kTile;
constexpr int64_t kFew = 128 * 128;  // weights, whose elements the second-level cache has room for

// Memory of a thread, which keeps it from call to call.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  float* need(int64_t floats) {
    if (floats > size_) {
      std::free(data_);
      data_ = nullptr, size_ = 0;
      void* fresh = nullptr;
      if (posix_memalign(&fresh, 4096, floats * sizeof(float))) throw std::bad_alloc();
      data_ = static_cast<float*>(fresh), size_ = floats;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

struct Maps {
  int64_t samples, height, width;

  int64_t positions() const { return height * width; }
  int64_t rows() const { return (height + kOut - 1) / kOut; }
  int64_t columns() const { return (width + kOut - 1) / kOut; }
  int64_t tiles() const { return samples * rows() * columns(); }
};

// Elements of `capacity` tiles as the products read them: (element, block of channels, tile, L). A line more keeps the
// elements of a tile from falling into the same set of the cache.
struct Elements {
  float* data;
  int64_t blocks, capacity;

  int64_t step() const { return blocks * capacity * L + 16; }
  int64_t size() const { return kElements * step(); }
  float* at(int64_t element, int64_t block, int64_t tile) const {
    return data + element * step() + (block * capacity + tile) * L;
  }
};

// A g A' in one dimension.
static inline void spread(const V* g, V* r) {
  const V even = g[0] + g[2], odd = g[1] + g[3], far = g[0] + g[2] * 4.0f, wide = g[1] * 2.0f + g[3] * 8.0f;
  r[0] = g[0];
  r[1] = even + odd;
  r[2] = even - odd;
  r[3] = far + wide;
  r[4] = far - wide;
  r[5] = g[3];
}

// G w
static inline void weights_to(const V* w, V* r) {
  const V outer = (w[0] + w[2]) * (-1.0f / 6), inner = w[1] * (1.0f / 6);
  const V far = w[0] * (1.0f / 24) + w[2] * (1.0f / 6), near = w[1] * (1.0f / 12);
  r[0] = w[0] * 0.25f;
  r[1] = outer - inner;
  r[2] = outer + inner;
  r[3] = far + near;
  r[4] = far - near;
  r[5] = w[2];
}

// G' s
static inline void weights_from(const V* s, V* r) {
  const V a = s[1] + s[2], b = s[2] - s[1], c = s[3] + s[4], d = s[3] - s[4];
  r[0] = s[0] * 0.25f - a * (1.0f / 6) + c * (1.0f / 24);
  r[1] = b * (1.0f / 6) + d * (1.0f / 12);
  r[2] = (c - a) * (1.0f / 6) + s[5];
}

// Transforms tiles of maps, `in` x `in` positions each, that begin `border` before the tile's outputs. Positions outside
// of the map are 0.
template <int in, int border, void (*transform)(const V*, V*)>
void tiles_to_elements(const Maps& maps, const float* map, const float* zeros, int64_t first, int64_t count,
                       const Elements& to) {
  const int64_t columns = maps.columns(), of_sample = maps.rows() * columns, step = to.step();
  for (int64_t q = 0; q < count; ++q) {
    const int64_t sample = (first + q) / of_sample, tile = (first + q) % of_sample;
    const int64_t y = tile / columns * kOut - border, x = tile % columns * kOut - border;
    const float* from = map + sample * to.blocks * maps.positions() * L;
    for (int64_t c = 0; c < to.blocks; ++c, from += maps.positions() * L) {
      const float* row[in];
      for (int a = 0; a < in; ++a) row[a] = y + a >= 0 && y + a < maps.height ? from + (y + a) * maps.width * L : zeros;
      V half[kTile][in];
#pragma GCC unroll 6
      for (int b = 0; b < in; ++b) {
        V column[in] = {}, out[kTile] = {};
        if (x + b >= 0 && x + b < maps.width) {
          for (int a = 0; a < in; ++a) column[a] = load(row[a] + (x + b) * L);
          transform(column, out);
        }
        for (int a = 0; a < kTile; ++a) half[a][b] = out[a];
      }
      float* element = to.at(0, c, q);
#pragma GCC unroll 6
      for (int a = 0; a < kTile; ++a) {
        V out[kTile];
        transform(half[a], out);
        for (int b = 0; b < kTile; ++b) store(element + (a * kTile + b) * step, out[b]);
      }
    }
  }
}

inline void elements_to_tiles(const Maps& maps, const Elements& from, int64_t first, int64_t count, float* map) {
  const int64_t columns = maps.columns(), of_sample = maps.rows() * columns, step = from.step();
  for (int64_t q = 0; q < count; ++q) {
    const int64_t sample = (first + q) / of_sample, tile = (first + q) % of_sample;
    const int64_t y = tile / columns * kOut, x = tile % columns * kOut;
    const int64_t rows = std::min<int64_t>(kOut, maps.height - y), wide = std::min<int64_t>(kOut, maps.width - x);
    for (int64_t c = 0; c < from.blocks; ++c) {
      const float* element = from.at(0, c, q);
      V half[kOut][kTile];
#pragma GCC unroll 6
      for (int b = 0; b < kTile; ++b) {
        V column[kTile], out[kOut];
        for (int a = 0; a < kTile; ++a) column[a] = load(element + (a * kTile + b) * step);
        from_winograd<kOut>(column, out);
        for (int a = 0; a < kOut; ++a) half[a][b] = out[a];
      }
      float* to = map + ((sample * from.blocks + c) * maps.positions() + y * maps.width + x) * L;
      for (int a = 0; a < rows; ++a, to += maps.width * L) {
        V out[kOut];
        from_winograd<kOut>(half[a], out);
        for (int b = 0; b < wide; ++b) store(to + b * L, out[b]);
      }
    }
  }
}

// Calls body(begin, end, thread) with the tiles of each thread.
template <class Body>
void for_ranges(int64_t count, Body body) {
#pragma omp parallel num_threads(threads())
  {
    const int64_t thread = omp_get_thread_num(), all = omp_get_num_threads();
    body(thread * count / all, (thread + 1) * count / all, thread);
  }
}

// Numbers that lie so far apart.
static inline V gather(const float* from, VI apart) {
#ifdef __AVX512F__
  return (V)_mm512_i32gather_ps((__m512i)apart, from, 4);
#else
  return (V)_mm256_i32gather_ps(from, (__m256i)apart, 4);
#endif
}

// From an element of transformed weights to the next: a line more, as for tiles.
inline int64_t weights_step(int64_t inputs, int64_t outputs) { return inputs * outputs + 16; }

// Transformed weights in the order of the products: (element, pair of blocks of outputs, input channel, output).
// `turned`: for the gradient of the input, whose inputs are the convolution's outputs.
inline void transform_weights(const float* weights, int64_t inputs, int64_t outputs, bool turned, float* to) {
  const int64_t blocks = outputs / L, step = weights_step(inputs, outputs);
  const int64_t by_input = turned ? outputs * 9 : 9, by_output = turned ? 9 : inputs * 9;
  VI apart;
  for (int l = 0; l < L; ++l) apart[l] = static_cast<int32_t>(l * by_output);
  for_ranges(blocks * inputs, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t block = k / inputs, input = k % inputs;
      const float* from = weights + input * by_input + block * L * by_output;
      V w[3][3], half[kTile][3];
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {
          const float* tap = from + (turned ? 8 - a * 3 - b : a * 3 + b);
          w[a][b] = gather(tap, apart);
        }
      }
      for (int b = 0; b < 3; ++b) {
        const V column[3] = {w[0][b], w[1][b], w[2][b]};
        V out[kTile];
        weights_to(column, out);
        for (int a = 0; a < kTile; ++a) half[a][b] = out[a];
      }
      const int64_t wide = block / 2 * 2 + 1 < blocks ? 2 : 1;  // blocks of the panel
      float* element = to + block / 2 * 2 * L * inputs + input * wide * L + block % 2 * L;
      for (int a = 0; a < kTile; ++a) {
        V out[kTile];
        weights_to(half[a], out);
        for (int b = 0; b < kTile; ++b) store(element + (a * kTile + b) * step, out[b]);
      }
    }
  });
}

// Sums of sums of 128 channels, whose rounding errors are half as large as those of one sum of 512.
template <int U, int B>
void product(const float* x, const int64_t* offsets, int64_t blocks, const float* w, float* y, int64_t block_stride) {
  constexpr int64_t some = 128 / L;
  V sums[U][B];
  products<U, B, L>(x, offsets, std::min(some, blocks), L, L, w, sums);
  for (int64_t first = some; first < blocks; first += some) {
    V more[U][B];
    products<U, B, L>(x, offsets + first, std::min(some, blocks - first), L, L, w + first * L * B * L, more);
    for (int b = 0; b < B; ++b) {
      for (int u = 0; u < U; ++u) sums[u][b] += more[u][b];
    }
  }
  for (int b = 0; b < B; ++b) {
    for (int u = 0; u < U; ++u) store(y + b * block_stride + u * L, sums[u][b]);
  }
}

typedef void (*Product)(const float*, const int64_t*, int64_t, const float*, float*, int64_t);

template <int B>
struct ProductsOf {
  Product of[widest<B>() + 1];
  constexpr ProductsOf() : of() { fill<1>(); }
  template <int U>
  constexpr void fill() {
    of[U] = product<U, B>;
    if constexpr (U < widest<B>()) fill<U + 1>();
  }
};

// One element of `count` tiles: of all inputs to one panel.
template <int B>
void panel(int64_t count, const float* x, const int64_t* offsets, int64_t blocks, const float* w, float* y,
           int64_t block_stride) {
  static constexpr ProductsOf<B> products_of;
  int64_t left = (count + widest<B>() - 1) / widest<B>();
  for (int64_t p = 0; left > 0; --left) {
    const int64_t u = (count - p + left - 1) / left;
    products_of.of[u](x + p * L, offsets, blocks, w, y + p * L, block_stride);
    p += u;
  }
}

// How many tiles to transform at a time: what they take stays in the second-level cache.
inline int64_t at_a_time(int64_t channels) {
  const int64_t fits = 196608 / (kElements * channels);  // floats
  return std::max<int64_t>(2 * WIDEST, std::min<int64_t>(fits / WIDEST * WIDEST, 8 * WIDEST));
}

// y = x * weights, or with `turned` the gradient of the input from the output's: `inputs` are then the outputs.
inline void convolve(const Maps& maps, int64_t inputs, int64_t outputs, const float* x, const float* weights,
                     bool turned, float* y) {
  const std::unique_ptr<float[]> transformed(new float[kElements * weights_step(inputs, outputs)]);
  transform_weights(weights, inputs, outputs, turned, transformed.get());
  const int64_t chunk = at_a_time(inputs + outputs), in_blocks = inputs / L, out_blocks = outputs / L;
  for_ranges(maps.tiles(), [&](int64_t begin, int64_t end, int64_t) {
    static thread_local Scratch scratch;
    Elements from = {nullptr, in_blocks, chunk}, to = {nullptr, out_blocks, chunk};
    const int64_t zeros = maps.width * L;
    float* memory = scratch.need(zeros + from.size() + to.size() + in_blocks * 2);
    std::memset(memory, 0, zeros * sizeof(float));
    from.data = memory + zeros, to.data = from.data + from.size();
    int64_t* offsets = reinterpret_cast<int64_t*>(to.data + to.size());
    for (int64_t c = 0; c < in_blocks; ++c) offsets[c] = c * chunk * L;
    for (int64_t first = begin; first < end; first += chunk) {
      const int64_t count = std::min(chunk, end - first);
      tiles_to_elements<kTile, 1, to_winograd<kOut>>(maps, x, memory, first, count, from);
      for (int64_t e = 0; e < kElements; ++e) {
        for (int64_t block = 0; block < out_blocks; block += 2) {
          const float* w = transformed.get() + e * weights_step(inputs, outputs) + block * L * inputs;
          const bool wide = block + 1 < out_blocks;
          (wide ? panel<2> : panel<1>)(count, from.at(e, 0, 0), offsets, in_blocks, w, to.at(e, block, 0), chunk * L);
        }
      }
      elements_to_tiles(maps, to, first, count, y);
    }
  });
}

// Adds to sums (block of outputs, input, L outputs) of one block of inputs the products of `count` neighbours.
inline void correlate(int64_t count, const float* x, const float* gradient, int64_t stride, int64_t out_blocks,
                      float* sums) {
  for (int64_t o = 0; o < out_blocks; ++o, sums += L * L, gradient += stride) {
    V a[L];
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) a[l] = V{};
    for (int64_t q = 0; q < count; ++q) {
      const V above = load(gradient + q * L);
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) a[l] += all(x[q * L + l]) * above;
    }
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) store(sums + l * L, load(sums + l * L) + a[l]);
  }
}

// The gradient of the weights: sums (element, block of inputs, block of outputs, input, L outputs) over tiles.
class WeightGradient {
 public:
  WeightGradient(const Maps& maps, int64_t inputs, int64_t outputs, const float* x, const float* gradient)
      : maps_(maps), in_blocks_(inputs / L), out_blocks_(outputs / L), pairs_(inputs * outputs), x_(x),
        gradient_(gradient), chunk_(at_a_time(inputs + outputs)) {}

  // Writes (outputs, inputs, 3, 3). Of few weights each thread has sums of its own, for the tiles of its samples. Of many,
  // it has some of the sums for all tiles: there is less to keep, but the threads wait for each other.
  void run(float* of_weights) {
    const bool apart = pairs_ <= kFew;
    sums_.reset(new float[(apart ? threads() : 1) * size()]);
    apart ? sum_apart() : sum_together();
    from_elements(of_weights);
  }

 private:
  int64_t size() const { return kElements * pairs_; }

  void transform(const float* zeros, int64_t first, int64_t count, const Elements& of_x, const Elements& of_gradient) {
    tiles_to_elements<kTile, 1, to_winograd<kOut>>(maps_, x_, zeros, first, count, of_x);
    tiles_to_elements<kOut, 0, spread>(maps_, gradient_, zeros, first, count, of_gradient);
  }
  void add(int64_t count, int64_t unit, const Elements& of_x, const Elements& of_gradient, float* sums) {
    const int64_t e = unit / in_blocks_, block = unit % in_blocks_;
    correlate(count, of_x.at(e, block, 0), of_gradient.at(e, 0, 0), chunk_ * L, out_blocks_,
              sums + unit * out_blocks_ * L * L);
  }

  void sum_apart() {
    for_ranges(maps_.tiles(), [&](int64_t begin, int64_t end, int64_t thread) {
      static thread_local Scratch scratch;
      if (thread == 0) parts_ = omp_get_num_threads();
      float* sums = sums_.get() + thread * size();
      std::memset(sums, 0, size() * sizeof(float));
      Elements of_x = {nullptr, in_blocks_, chunk_}, of_gradient = {nullptr, out_blocks_, chunk_};
      const int64_t zeros = maps_.width * L;
      float* memory = scratch.need(zeros + of_x.size() + of_gradient.size());
      std::memset(memory, 0, zeros * sizeof(float));
      of_x.data = memory + zeros, of_gradient.data = of_x.data + of_x.size();
      for (int64_t first = begin; first < end; first += chunk_) {
        const int64_t count = std::min(chunk_, end - first);
        transform(memory, first, count, of_x, of_gradient);
        for (int64_t unit = 0; unit < kElements * in_blocks_; ++unit) add(count, unit, of_x, of_gradient, sums);
      }
    });
  }

  void sum_together() {
    chunk_ = std::min<int64_t>(maps_.tiles(), 8 * WIDEST);
    Elements of_x = {nullptr, in_blocks_, chunk_}, of_gradient = {nullptr, out_blocks_, chunk_};
    const int64_t zeros = maps_.width * L, units = kElements * in_blocks_;
    const std::unique_ptr<float[]> memory(new float[zeros + of_x.size() + of_gradient.size()]);
    std::memset(memory.get(), 0, zeros * sizeof(float));
    of_x.data = memory.get() + zeros, of_gradient.data = of_x.data + of_x.size();
    parts_ = 1;
#pragma omp parallel num_threads(threads())
    {
      const int64_t thread = omp_get_thread_num(), all = omp_get_num_threads();
      const int64_t begin = thread * units / all, end = (thread + 1) * units / all;
      const int64_t of_unit = out_blocks_ * L * L;
      std::memset(sums_.get() + begin * of_unit, 0, (end - begin) * of_unit * sizeof(float));
      for (int64_t first = 0; first < maps_.tiles(); first += chunk_) {
        const int64_t count = std::min(chunk_, maps_.tiles() - first);
        const int64_t mine = thread * count / all, next = (thread + 1) * count / all;
        const Elements my_x = {of_x.data + mine * L, in_blocks_, chunk_};
        const Elements my_gradient = {of_gradient.data + mine * L, out_blocks_, chunk_};
        transform(memory.get(), first + mine, next - mine, my_x, my_gradient);
#pragma omp barrier
        for (int64_t unit = begin; unit < end; ++unit) add(count, unit, of_x, of_gradient, sums_.get());
#pragma omp barrier
      }
    }
  }

  void from_elements(float* of_weights) {
    const int64_t inputs = in_blocks_ * L;
    for_ranges(inputs * out_blocks_, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t k = begin; k < end; ++k) {  // a vector of L outputs of one input
        const int64_t input = k / L / out_blocks_ * L + k % L, output = k / L % out_blocks_ * L;
        V half[3][kTile];
        for (int b = 0; b < kTile; ++b) {
          V column[kTile], out[3];
          for (int a = 0; a < kTile; ++a) column[a] = sum((a * kTile + b) * pairs_ + k * L);
          weights_from(column, out);
          for (int a = 0; a < 3; ++a) half[a][b] = out[a];
        }
        for (int a = 0; a < 3; ++a) {
          V out[3];
          weights_from(half[a], out);
          for (int b = 0; b < 3; ++b) {
            for (int l = 0; l < L; ++l) of_weights[((output + l) * inputs + input) * 9 + a * 3 + b] = out[b][l];
          }
        }
      }
    });
  }
  V sum(int64_t at) const {
    V total = load(sums_.get() + at);
    for (int64_t part = 1; part < parts_; ++part) total += load(sums_.get() + part * size() + at);
    return total;
  }

  const Maps maps_;
  const int64_t in_blocks_, out_blocks_, pairs_;
  const float *x_, *gradient_;
  int64_t chunk_, parts_ = 1;
  std::unique_ptr<float[]> sums_;
};

}  // namespace winograd
}  // namespace kernels

#endif  // KERNELS_WINOGRAD_H_
