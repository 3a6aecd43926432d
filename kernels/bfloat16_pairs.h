// Maps and gradients as products of tiles over positions take them: the gradient of a convolution's weights is one.
//
// The gradient is turned: each row of a tile is one output, at 32 positions. The map is paired: each row of a tile is a pair of
// positions, with 16 numbers of both, in turn. These numbers are parts of runs, as in the convolution itself: of what a row of
// the kernel meets from a position on. Taps below each other in the kernel therefore read the same memory, rows of the map apart.
#ifndef KERNELS_BFLOAT16_PAIRS_H_
#define KERNELS_BFLOAT16_PAIRS_H_

#include "bfloat16_convolution.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

constexpr int64_t kStrip = 1024;  // positions: what is made of them is in the second cache when it is used

// Samples are taken in strips of rows of the output, several strips together if they are small.
struct Grid {
  // `whole`: all samples together.
  Grid(const Geometry& g, bool whole)
      : width(up(g.out_width, 2)),
        strips((g.out_height * width + kStrip - 1) / kStrip),
        strip((g.out_height + strips - 1) / strips),
        steps(up(strip * width, kDepth) / kDepth),
        lines(strip + (g.kernel_height - 1) / g.stride),
        outputs(up(g.outputs, kTile) / kTile),
        columns(up(g.kernel_width * g.channels, kTile) / kTile),
        panel(std::min(g.stride, g.kernel_height) * lines * width * kTile) {
    strips = (g.out_height + strip - 1) / strip;
    together = g.samples * strips;
    if (!whole) together = std::min(together, std::max<int64_t>(1, kStrip / kDepth / steps));
  }
  int64_t turned() const { return steps * outputs * kPanel; }
  int64_t paired() const { return columns * panel; }
  // Of all strips together, with what is read behind them, and comes to nothing.
  int64_t all_turned() const { return together * turned(); }
  int64_t all_paired() const { return together * paired() + kPanel; }

  int64_t width, strips, strip;  // of a row of the output; in a sample; rows
  int64_t steps;                 // of 32 positions, in a strip
  int64_t lines;                 // rows of the map in each remainder by the stride, that a strip meets
  int64_t outputs, columns;      // tiles of these; of the numbers of a run
  int64_t panel;                 // numbers that a strip has for a tile of columns
  int64_t together;              // strips
};

// The numbers of two positions in turn.
inline __m512i in_turn(__m256i one, __m256i other) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, _mm512_inserti64x4(_mm512_castsi256_si512(one), other, 1));
}

// Turns 32 positions of up to 16 outputs into 16 rows; `at(k)` is where the k-th lies. Pairs of positions are turned as wholes,
// of 32 bits.
template <class At>
inline __attribute__((always_inline)) void turn_from(At at, __mmask16 mask, Bits* to) {
  __m512i a[16], b[16];
  for (int k = 0; k < 16; ++k) {
    a[k] = in_turn(_mm256_maskz_loadu_epi16(mask, at(2 * k)), _mm256_maskz_loadu_epi16(mask, at(2 * k + 1)));
  }
  for (int k = 0; k < 16; k += 2) {
    b[k] = _mm512_unpacklo_epi32(a[k], a[k + 1]);
    b[k + 1] = _mm512_unpackhi_epi32(a[k], a[k + 1]);
  }
  for (int k = 0; k < 16; k += 4) {
    for (int half = 0; half < 2; ++half) {
      a[k + 2 * half] = _mm512_unpacklo_epi64(b[k + half], b[k + half + 2]);
      a[k + 2 * half + 1] = _mm512_unpackhi_epi64(b[k + half], b[k + half + 2]);
    }
  }
  for (int k = 0; k < 4; ++k) {  // outputs k, k + 4, k + 8 and k + 12 of four pairs each
    const __m512i low = _mm512_shuffle_i32x4(a[k], a[k + 4], 0x88), high = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(a[k], a[k + 4], 0xdd);
    const __m512i high_odd = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0xdd);
    _mm512_store_si512(to + k * kDepth, _mm512_shuffle_i32x4(low, high, 0x88));
    _mm512_store_si512(to + (k + 4) * kDepth, _mm512_shuffle_i32x4(low_odd, high_odd, 0x88));
    _mm512_store_si512(to + (k + 8) * kDepth, _mm512_shuffle_i32x4(low, high, 0xdd));
    _mm512_store_si512(to + (k + 12) * kDepth, _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd));
  }
}

inline void turn(const Bits* from, int64_t step, __mmask16 mask, Bits* to) {
  turn_from([&](int k) { return from + k * step; }, mask, to);
}

inline void turn(const Bits* const (&from)[kDepth], int64_t output, __mmask16 mask, Bits* to) {
  turn_from([&](int k) { return from[k] + output; }, mask, to);
}

// Turns rows of a sample's gradient (output height, output width, O). Where a row has odd width, and behind the last one,
// positions are gathered in `few`, of 32 positions.
inline void turn_strip(const Geometry& g, const Grid& grid, const Bits* sample, int64_t first_row, Bits* few, Bits* to) {
  const int64_t rows = std::min(grid.strip, g.out_height - first_row), all = rows * g.out_width;
  const Bits* const strip = sample + first_row * g.out_width * g.outputs;
  for (int64_t step = 0; step < grid.steps; ++step) {
    stay_awake();
    const bool whole = grid.width == g.out_width && (step + 1) * kDepth <= all;
    const Bits* from = whole ? strip + step * kDepth * g.outputs : few;
    for (int64_t k = 0; !whole && k < kDepth; ++k) {
      const int64_t y = (step * kDepth + k) / grid.width, x = (step * kDepth + k) % grid.width;
      const bool inside = y < rows && x < g.out_width;
      if (inside) std::memcpy(few + k * g.outputs, strip + (y * g.out_width + x) * g.outputs, g.outputs * sizeof(Bits));
      else std::memset(few + k * g.outputs, 0, g.outputs * sizeof(Bits));
    }
    for (int64_t o = 0; o < g.outputs; o += kTile, to += kPanel) turn(from + o, g.outputs, lanes(g.outputs - o), to);
  }
}

// The map's rows that a strip of the output meets, as pairs of runs. `row` is a row with its border, which is zero already.
inline void pair_strip(const Geometry& g, const Grid& grid, const Bits* sample, int64_t first_row, Bits* row, Bits* to) {
  const int64_t step = g.stride * g.channels, width = grid.width, panel = grid.panel;
  for (int64_t r = 0; r < grid.lines * g.stride; ++r) {
    const int64_t y = first_row * g.stride - g.top + r;
    if (r % g.stride >= g.kernel_height) continue;
    Bits* const line = to + (r % g.stride * grid.lines + r / g.stride) * grid.width * kTile;
    if (y < 0 || y >= g.height) {
      for (int64_t k = 0; k < grid.columns; ++k) std::memset(line + k * grid.panel, 0, grid.width * kTile * sizeof(Bits));
      continue;
    }
    stay_awake();
    std::memcpy(row + g.left * g.channels, sample + y * g.width * g.channels, g.width * g.channels * sizeof(Bits));
    for (int64_t k = 0; k < grid.columns; ++k) {
      const Bits* from = row + k * kTile;
      Bits* own = line + k * panel;
      for (int64_t x = 0; x < width; x += 2, from += 2 * step, own += kDepth) {
        const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + step));
        _mm512_store_si512(own, in_turn(low, high));
      }
    }
  }
}

// Strips that are taken together.
class Strips {
 public:
  Strips(const Geometry& g, const Grid& grid)
      : g_(g), grid_(grid), turned_(room<Bits>(grid.all_turned())), paired_(zeros(grid.all_paired())) {}

  // Makes a strip at `number` of those together.
  void make(int64_t strip, int64_t number, const Bits* maps, const Bits* gradients, Bits* few, Bits* row) const {
    const int64_t n = strip / grid_.strips, first = strip % grid_.strips * grid_.strip;
    turn_strip(g_, grid_, gradients + n * g_.out_height * g_.out_width * g_.outputs, first, few,
               turned_.get() + number * grid_.turned());
    pair_strip(g_, grid_, maps + n * g_.height * g_.width * g_.channels, first, row,
               paired_.get() + number * grid_.paired());
  }

  // Numbers of the row that `make` takes.
  static int64_t row(const Geometry& g, const Grid& grid) {
    return (grid.width * g.stride + g.kernel_width) * g.channels + g.left * g.channels + g.width * g.channels + kDepth;
  }

  // Adds the products of `count` strips to the sums of `high` tiles of outputs and `across` tiles of columns, which are
  // numbered by their place in a run, and for each by the row of the kernel.
  template <int high, int across>
  void add_products(int64_t count, int64_t output, int64_t column, float* sums, int64_t apart) const {
    const Bits* from[across];
    for (int64_t k = 0; k < across; ++k) {
      const int64_t y = (column + k) % g_.kernel_height, x = (column + k) / g_.kernel_height;
      from[k] = paired_.get() + x * grid_.panel + (y % g_.stride * grid_.lines + y / g_.stride) * grid_.width * kTile;
    }
    asm volatile("" : : : "memory");
    load_tiles<high, across>(sums, kSums, apart * kSums);
    for (int64_t strip = 0; strip < count; ++strip) {
      const Bits* rows = turned_.get() + strip * grid_.turned() + output * kPanel;
      multiply<high, across>(grid_.steps, 64, 64, [&](int64_t k, Pieces* at) {
        for (int64_t tile = 0; tile < high; ++tile) at->rows[tile] = rows + (k * grid_.outputs + tile) * kPanel;
        for (int64_t tile = 0; tile < across; ++tile) {
          at->columns[tile] = from[tile] + strip * grid_.paired() + k * kPanel;
        }
      });
    }
    store_tiles<high, across>(sums, kSums, apart * kSums);
  }

 private:
  const Geometry& g_;
  const Grid& grid_;
  const Buffer turned_, paired_;
};

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_PAIRS_H_
