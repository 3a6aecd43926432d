// What a convolution of bfloat16 maps consists of: the plane that a sample is copied into, the parts that are computed from it,
// and their weights.
//
// A plane has a border of zeros, and lies as (rows, width, C). What a row of the kernel meets is then a run of numbers side by
// side, of kernel width times C, and so is what it meets for a group of neighbouring outputs. A row of sums is all numbers of
// such a group: groups are as large as they have to be for runs to begin with lines of the cache, and for few of the products
// to be with weights that are zero.
#ifndef KERNELS_BFLOAT16_PARTS_H_
#define KERNELS_BFLOAT16_PARTS_H_

#include <algorithm>
#include <numeric>
#include <vector>

#include "bfloat16_tiles.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

inline int64_t up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A sample with its border: (rows, width, channels). What is beside the end of a row is the border before the next one.
// With a stride, rows lie in `phases`, those that a row of the kernel meets one after the other.
struct Plane {
  int64_t channels, phases, rows, width, top, left, in_height, in_width;

  int64_t size() const { return phases * rows * width * channels; }
  int64_t row(int64_t y) const { return (y % phases * rows + y / phases) * width * channels; }
  bool is_sample() const { return phases == 1 && rows == in_height && width == in_width; }
};

// Along one side: the places of a run, `from` on, that an output takes, each with the next tap of the kernel.
struct Taps {
  int64_t from, count, first, step;
  int64_t end() const { return from + count; }
};

// What a convolution computes: some rows of the output, in groups of positions side by side. A group is a row of sums,
// and takes a run of the plane's positions.
struct Part {
  int64_t outputs, out_width, rows, step, first;  // every `step`th row from the first one on
  Taps down;
  std::vector<Taps> across;             // of each position of a group
  int64_t above, beside, run, advance;  // the first group's run: where it is and its length; from group to group

  int64_t columns() const { return across.size() * outputs; }
  int64_t tiles() const { return up(columns(), kTile) / kTile; }
  int64_t groups() const { return (out_width + across.size() - 1) / across.size(); }
  int64_t pieces(const Plane& plane) const { return up(run * plane.channels, kDepth) / kDepth; }
  int64_t depth(const Plane& plane) const { return down.count * pieces(plane); }
  // Sums are taken on a grid of all groups of the plane.
  int64_t grid(const Plane& plane) const { return plane.width / advance; }
  int64_t count(const Plane& plane) const { return (rows - 1) * grid(plane) + groups(); }
  // Of a plane with what is read behind it, and comes to nothing.
  int64_t room(const Plane& plane) const {
    return plane.size() + (2 * kTile * advance + run + beside) * plane.channels + kDepth;
  }
  // Whether the sample itself can serve as its plane.
  bool in_place(const Plane& plane) const {
    return plane.is_sample() && down.count == 1 && above == 0 && beside == 0 && run == advance &&
           plane.width % advance == 0 && run * plane.channels % kDepth == 0 && count(plane) >= kTile;
  }
  // Whether there are outputs that no tap reaches.
  bool has_gaps() const {
    return down.count == 0 || std::any_of(across.begin(), across.end(), [](const Taps& taps) { return taps.count == 0; });
  }
  // The pieces of a run that some columns take.
  std::pair<int64_t, int64_t> pieces_of(const Plane& plane, int64_t column, int64_t count) const {
    int64_t from = run, end = 0;
    for (int64_t k = column / outputs; k <= (std::min(column + count, columns()) - 1) / outputs; ++k) {
      if (across[k].count <= 0) continue;
      from = std::min(from, across[k].from);
      end = std::max(end, across[k].end());
    }
    if (end <= from) return {0, 0};
    return {from * plane.channels / kDepth, up(end * plane.channels, kDepth) / kDepth};
  }
  // About how long it takes: a product of tiles is 16, loading a tile 8, and a row of it that lies across lines 3 more.
  int64_t cost(const Plane& plane) const {
    const int64_t lines = kDepth / std::gcd(advance * plane.channels, kDepth);  // offsets that rows have from lines
    const int64_t load = 8 + 48 * (lines - 1) / lines;
    int64_t sum = 0;
    for (int64_t column = 0; column < columns(); column += 2 * kTile) {
      const auto pieces = pieces_of(plane, column, 2 * kTile);
      const bool wide = column + kTile < columns();
      sum += (pieces.second - pieces.first) * (wide ? std::max<int64_t>(32, load + 8) : std::max<int64_t>(16, load + 2));
    }
    return sum * down.count * up(count(plane), kTile) / kTile;
  }
};

// Where the numbers of a weight (O, C, kernel height, kernel width) lie.
struct Source {
  const Bits* weights;
  int64_t output_step, channel_step, width;  // `width` of the kernel
};

// Packs a part's weights: for each 16 columns, row of the kernel and piece of a run, (16, 16, 2).
inline void pack(const Plane& plane, const Part& part, const Source& from, Bits* to) {
  const int64_t depth = part.depth(plane), tiles = part.tiles(), columns = part.columns();
#pragma omp parallel for num_threads(threads()) if (tiles * depth * kPanel > kSmall)
  for (int64_t tile = 0; tile < tiles; ++tile) {
    Bits* const panel = to + tile * depth * kPanel;
    std::memset(panel, 0, depth * kPanel * sizeof(Bits));
    for (int64_t column = tile * kTile; column < std::min(columns, (tile + 1) * kTile); ++column) {
      const Bits* const weights = from.weights + column % part.outputs * from.output_step;
      const Taps& across = part.across[column / part.outputs];
      for (int64_t y = 0; y < part.down.count; ++y) {
        Bits* const row = panel + y * part.pieces(plane) * kPanel + column % kTile * 2;
        for (int64_t x = 0; x < across.count; ++x) {
          const int64_t place = (across.from + x) * plane.channels;
          const Bits* tap = weights + (part.down.first + y * part.down.step) * from.width + across.first + x * across.step;
          int64_t k = place;
          for (; place % 2 == 0 && k + 2 <= place + plane.channels; k += 2, tap += 2 * from.channel_step) {
            const uint32_t both = tap[0] | uint32_t(tap[from.channel_step]) << 16;
            std::memcpy(row + k * kTile, &both, sizeof(both));
          }
          for (; k < place + plane.channels; ++k, tap += from.channel_step) row[k / 2 * 2 * kTile + k % 2] = *tap;
        }
      }
    }
  }
}

// Copies the rows of a sample that a kernel of so many rows meets into its plane, whose border is zero already.
inline void lay_out(const Plane& plane, int64_t kernel_rows, const Bits* sample, Bits* to) {
  const int64_t row = plane.in_width * plane.channels;
  for (int64_t y = 0; y < plane.in_height; ++y) {
    if ((plane.top + y) % plane.phases >= kernel_rows) continue;
    stay_awake();
    std::memcpy(to + plane.row(plane.top + y) + plane.left * plane.channels, sample + y * row, row * sizeof(Bits));
  }
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_PARTS_H_
