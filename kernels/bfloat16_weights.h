// Gradients of the weights of bfloat16 convolutions, with AMX.
#ifndef KERNELS_BFLOAT16_WEIGHTS_H_
#define KERNELS_BFLOAT16_WEIGHTS_H_

#include "bfloat16_pairs.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

constexpr int64_t kMany = 1 << 17;  // weights

// Rounds the sums of a tile, of `parts` tiles `apart` numbers apart, into the gradient (O, C, kernel height, kernel width).
inline void store_weights(const Geometry& g, int64_t output, int64_t column, const float* sums, int64_t parts,
                          int64_t apart, Bits* to) {
  const int64_t y = column % g.kernel_height, place = column / g.kernel_height * kTile;
  const int64_t count = std::min(kTile, g.kernel_width * g.channels - place);
  for (int64_t r = 0; r < std::min(kTile, g.outputs - output * kTile); ++r, sums += kTile) {
    __m512 total = _mm512_loadu_ps(sums);
    for (int64_t part = 1; part < parts; ++part) total += _mm512_loadu_ps(sums + part * apart);
    alignas(32) Bits rounded[kVector];
    store(rounded, total);
    Bits* const own = to + ((output * kTile + r) * g.channels * g.kernel_height + y) * g.kernel_width;
    int64_t x = place / g.channels, c = place % g.channels;
    for (int64_t k = 0; k < count; ++k) {
      own[c * g.kernel_height * g.kernel_width + x] = rounded[k];
      if (++c == g.channels) c = 0, ++x;
    }
  }
}

// The sums of a thread's strips: (columns, outputs) tiles.
inline void sum_strips(const Geometry& g, const Grid& grid, int64_t begin, int64_t end, const Bits* maps,
                       const Bits* gradients, float* sums) {
  const Tiles tiles;
  const Strips strips(g, grid);
  const Buffer few = zeros(kDepth * g.outputs), row = zeros(Strips::row(g, grid));
  const int64_t columns = grid.columns * g.kernel_height;
  for (int64_t first = begin; first < end; first += grid.together) {
    const int64_t count = std::min(grid.together, end - first);
    for (int64_t k = 0; k < count; ++k) strips.make(first + k, k, maps, gradients, few.get(), row.get());
    for (int64_t output = 0; output < grid.outputs; output += 2) {
      const bool tall = output + 1 < grid.outputs;
      const auto at = [&](int64_t column) { return sums + (column * grid.outputs + output) * kSums; };
      int64_t column = 0;
      for (; !tall && column + 3 < columns; column += 4) {
        strips.add_products<1, 4>(count, output, column, at(column), grid.outputs);
      }
      for (; column < columns; column += 2) {
        with_tiles(tall, column + 1 < columns, [&](auto high, auto across) {
          strips.add_products<decltype(high)::value, decltype(across)::value>(count, output, column, at(column), grid.outputs);
        });
      }
    }
  }
}

// The gradient of many weights, each of which is summed up over all samples at once: sums of a thread's samples would
// not fit into its caches.
inline void correlate_many_weights(const Geometry& g, const Bits* maps, const Bits* gradients, Bits* to) {
  const Grid grid(g, true);
  const Strips strips(g, grid);
  const int64_t columns = grid.columns * g.kernel_height, outputs = (grid.outputs + 1) / 2;
#pragma omp parallel num_threads(threads())
  {
    const Tiles tiles;
    const Buffer few = zeros(kDepth * g.outputs), row = zeros(Strips::row(g, grid));
    const auto sums = room<float>(4 * kSums);
#pragma omp for
    for (int64_t k = 0; k < grid.together; ++k) strips.make(k, k, maps, gradients, few.get(), row.get());
#pragma omp for
    for (int64_t k = 0; k < (columns + 1) / 2 * outputs; ++k) {
      const int64_t output = k % outputs * 2, column = k / outputs * 2;
      std::fill(sums.get(), sums.get() + 4 * kSums, 0.0f);
      with_tiles(output + 1 < grid.outputs, column + 1 < columns, [&](auto high, auto across) {
        strips.add_products<decltype(high)::value, decltype(across)::value>(grid.together, output, column, sums.get(), 2);
      });
      for (int64_t tile = 0; tile < 4; ++tile) {
        const int64_t y = output + tile % 2, x = column + tile / 2;
        if (y < grid.outputs && x < columns) store_weights(g, y, x, sums.get() + tile * kSums, 1, 0, to);
      }
    }
  }
}

// The gradient (O, C, kernel height, kernel width); bitwise the same for the same number of threads.
inline void correlate_weights(const Geometry& g, const Bits* maps, const Bits* gradients, Bits* to) {
  if (g.kernel_height * g.kernel_width * g.channels * g.outputs > kMany) {
    return correlate_many_weights(g, maps, gradients, to);
  }
  const Grid grid(g, false);
  const int64_t strips = g.samples * grid.strips, parts = std::max<int64_t>(1, std::min<int64_t>(threads(), strips));
  const int64_t all = grid.columns * g.kernel_height * grid.outputs, size = all * kSums;
  const auto sums = room<float>(parts * size);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    float* const own = sums.get() + part * size;
    std::fill(own, own + size, 0.0f);
    sum_strips(g, grid, strips * part / parts, strips * (part + 1) / parts, maps, gradients, own);
  }
#pragma omp parallel for num_threads(threads()) if (size > kSmall)
  for (int64_t k = 0; k < all; ++k) {
    store_weights(g, k % grid.outputs, k / grid.outputs, sums.get() + k * kSums, parts, size, to);
  }
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_WEIGHTS_H_
