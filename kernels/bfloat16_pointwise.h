// The products of pointwise.h on bfloat16 maps, by AMX's tiles: positions are rows, and a tile's numbers of them lie side
// by side. Pieces that are multiplied are copies whose rows are filled up with zeros to whole tiles.
#ifndef KERNELS_BFLOAT16_POINTWISE_H_
#define KERNELS_BFLOAT16_POINTWISE_H_

#include "bfloat16_pairs.h"
#include "pointwise.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

constexpr int64_t kMost = kDepth / 8;  // positions of a row

// How pieces that are multiplied lie. A row of a tile takes 32 numbers. If the channels divide 32, a row holds several
// positions, and the matrix has a block on its diagonal for each of them; otherwise each position is filled up with zeros.
struct Rows {
  explicit Rows(int64_t channels)
      : together(kDepth % channels == 0 ? kDepth / channels : 1),
        step(kDepth % channels == 0 ? channels : up(channels, kDepth)) {}

  const int64_t together;  // positions of a row
  const int64_t step;      // from one position to the next
};

// A matrix (inputs, outputs), in the order in which tiles take it: for each 16 outputs, pairs of 32 inputs.
class Panels {
 public:
  Panels(const float* matrix, int64_t inputs, int64_t outputs)
      : together(Rows(inputs).together), outputs(together * outputs), depth(up(inputs * together, kDepth) / kDepth),
        bits_(zeros(up(together * outputs, kTile) * depth * kDepth)) {
    for (int64_t block = 0; block < together; ++block) {
      for (int64_t k = 0; k < inputs * outputs; ++k) {
        const int64_t i = block * inputs + k / outputs, o = block * outputs + k % outputs;
        Bits* const panel = bits_.get() + (o / kTile * depth + i / kDepth) * kPanel;
        panel[i % kDepth / 2 * 2 * kTile + o % kTile * 2 + i % 2] = rounded(matrix[k]);
      }
    }
  }
  const Bits* from(int64_t output) const { return bits_.get() + output / kTile * depth * kPanel; }

  const int64_t together, outputs, depth;

 private:
  const Buffer bits_;
};

// Up to 64 rows by 16 outputs, or 32 by 32.
template <int high, int across>
inline void multiply_rows(const Bits* rows, int64_t step, const Panels& weights, int64_t o, float* to, int64_t apart) {
  asm volatile("" : : : "memory");  // GCC does not know that tiles are read from memory
  clear<high, across>();
  multiply<high, across>(weights.depth, step * sizeof(Bits), 64, [&](int64_t k, Pieces* at) {
    for (int tile = 0; tile < high; ++tile) at->rows[tile] = rows + tile * kTile * step + k * kDepth;
    for (int tile = 0; tile < across; ++tile) at->columns[tile] = weights.from(o + tile * kTile) + k * kPanel;
  });
  store_tiles<high, across>(to, kTile * apart, kTile, apart * sizeof(float));
  asm volatile("" : : : "memory");
}

// Calls `body(high, across, first row, first output)` for all products of so many positions.
template <class Body>
inline void for_products(int64_t positions, const Panels& weights, Body body) {
  typedef std::integral_constant<int, 1> One;
  typedef std::integral_constant<int, 4> Four;
  const int64_t rows = (positions + weights.together - 1) / weights.together;
  for (int64_t r = 0; r < rows;) {
    const bool many = weights.outputs <= kTile && r + 3 * kTile < rows;
    for (int64_t o = 0; o < weights.outputs; o += 2 * kTile) {
      if (many) {
        body(Four(), One(), r, o);
      } else {
        with_tiles(r + kTile < rows, o + kTile < weights.outputs,
                   [&](auto high, auto across) { body(high, across, r, o); });
      }
    }
    r += many ? 4 * kTile : 2 * kTile;
  }
}

// The pieces of one thread, and products of them: as `Pointwise` in pointwise.h.
template <int wide, int narrow>
class TilePointwise {
 public:
  static constexpr int64_t kNear = 8192;
  typedef Panels Weights;

  TilePointwise(int64_t channels, int64_t width, int64_t most)
      : positions_(up(most, 4 * kTile * kMost)), inner_(width), outer_(channels),
        bits_(zeros(positions_ * (2 * inner_.step + outer_.step + row(channels) + row(width)) + up(width, kDepth))),
        floats_(room<float>(positions_ * row(channels))) {
    hidden = {bits_.get(), width, inner_.step};
    other = {hidden.data + positions_ * inner_.step, width, inner_.step};
    squeezed = {other.data, width, width};
    of_logits = {other.data + positions_ * inner_.step, channels, outer_.step};
    logits = {floats_.get(), channels, up(inner_.together * channels, kTile) / inner_.together};
    turned_ = of_logits.data + positions_ * outer_.step;
    paired_ = turned_ + positions_ * row(width);
    none_ = paired_ + positions_ * row(channels);
  }

  // A map's piece as products take it.
  ByPosition<const Bits> rows(int64_t count, ByPosition<const Bits> x) const {
    if (x.step == outer_.step) {
      if (count % (kTile * outer_.together) == 0) return x;  // nothing behind a map itself may be read
      std::memcpy(of_logits.data, x.data, count * x.step * sizeof(Bits));
      return of_logits;
    }
    for (int64_t p = 0; p < count; ++p) std::memcpy(of_logits.at(0, p), x.at(0, p), x.channels * sizeof(Bits));
    return of_logits;
  }

  template <int, int>
  void project(int64_t count, ByPosition<const Bits> x, const Panels& weights, ByPosition<float> y) const {
    const int64_t g = weights.together;
    for_products(count, weights, [&](auto high, auto across, int64_t r, int64_t o) {
      constexpr int tall = decltype(high)::value, broad = decltype(across)::value;
      multiply_rows<tall, broad>(x.at(0, r * g), g * x.step, weights, o, y.at(0, r * g) + o, g * y.step);
    });
  }

  template <int, int>
  void project(int64_t count, ByPosition<const Bits> x, const Panels& weights, ByPosition<Bits> y,
               bool add = false) const {
    const int64_t g = weights.together, end = count * y.step;
    alignas(64) float sums[4 * kTile * kTile];
    for_products(count, weights, [&](auto high, auto across, int64_t r, int64_t o) {
      constexpr int tall = decltype(high)::value, broad = decltype(across)::value;
      multiply_rows<tall, broad>(x.at(0, r * g), g * x.step, weights, o, sums, broad * kTile);
      for (int64_t k = 0; k < broad; ++k) {
        const int64_t first = r * g * y.step + o + k * kTile;
        const __mmask16 whole = lanes(weights.outputs - o - k * kTile);
        for (int64_t q = 0; q < tall * kTile; ++q) {
          const int64_t at = first + q * g * y.step;
          if (at >= end) break;
          const __mmask16 mask = whole & lanes(end - at);
          __m512 sum = _mm512_load_ps(sums + (q * broad + k) * kTile);
          if (add) sum += load(y.data + at, mask);
          store(y.data + at, sum, mask);
        }
      }
    });
  }

  // From one row of products to the next.
  static int64_t row(int64_t channels) { return up(channels, kTile); }
  static int64_t products(int64_t channels, int64_t width) { return row(width) * row(channels); }

  // Adds the sum over positions of a[i] b[j] to products[i][j].
  void correlate(int64_t count, ByPosition<const Bits> a, ByPosition<const Bits> b, float* products) const {
    turn_piece(count, a);
    pair_piece(count, b);
    const int64_t steps = up(count, kDepth) / kDepth, columns = row(b.channels), high = row(a.channels) / kTile;
    for (int64_t i = 0; i < high; i += 2) {
      for (int64_t j = 0; j < columns / kTile; j += 2) {
        with_tiles(i + 1 < high, (j + 1) * kTile < columns, [&](auto two_high, auto two_across) {
          constexpr int tall = decltype(two_high)::value, broad = decltype(two_across)::value;
          float* const to = products + (i * columns + j) * kTile;
          asm volatile("" : : : "memory");
          load_tiles<tall, broad>(to, kTile * columns, kTile, columns * sizeof(float));
          multiply<tall, broad>(steps, 64, 64, [&](int64_t k, Pieces* at) {
            for (int tile = 0; tile < tall; ++tile) at->rows[tile] = turned_ + (k * high + i + tile) * kPanel;
            for (int tile = 0; tile < broad; ++tile) at->columns[tile] = paired_ + k * kDepth * columns + (j + tile) * kPanel;
          });
          store_tiles<tall, broad>(to, kTile * columns, kTile, columns * sizeof(float));
          asm volatile("" : : : "memory");
        });
      }
    }
  }

  ByPosition<Bits> hidden, other, of_logits;
  ByPosition<Bits> squeezed;  // as a map lies, in place of `other`
  ByPosition<float> logits;

 private:
  // As the rows of products over positions, with zeros behind them.
  void turn_piece(int64_t count, ByPosition<const Bits> a) const {
    Bits* to = turned_;
    const Bits* from[kDepth];
    for (int64_t first = 0; first < count; first += kDepth) {
      for (int64_t k = 0; k < kDepth; ++k) from[k] = first + k < count ? a.at(0, first + k) : none_;
      for (int64_t i = 0; i < a.channels; i += kTile, to += kPanel) turn(from, i, lanes(a.channels - i), to);
    }
  }

  // As the columns of products over positions, with zeros behind them.
  void pair_piece(int64_t count, ByPosition<const Bits> b) const {
    const int64_t columns = row(b.channels);
    for (int64_t c = 0; c < b.channels; c += kTile) {
      const __mmask16 mask = lanes(b.channels - c);
      for (int64_t p = 0; p < up(count, kDepth); p += 2) {
        const __m256i low = _mm256_maskz_loadu_epi16(p < count ? mask : 0, b.at(c, p));
        const __m256i high = _mm256_maskz_loadu_epi16(p + 1 < count ? mask : 0, b.at(c, p + 1));
        Bits* const to = paired_ + p / kDepth * kDepth * columns + c / kTile * kPanel + p % kDepth * kTile;
        _mm512_store_si512(to, in_turn(low, high));
      }
    }
  }

  const Tiles tiles_;
  const int64_t positions_;
  const Rows inner_, outer_;
  const Buffer bits_;
  const std::unique_ptr<float[], Free> floats_;
  Bits *turned_, *paired_, *none_;
};

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_POINTWISE_H_
