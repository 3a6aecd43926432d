// Convolutions of bfloat16 maps without groups, and the gradients of the maps, with AMX.
//
// A tile's rows are 16 groups of outputs, wherever they lie in the plane; sums between the rows of the output are thrown away.
#ifndef KERNELS_BFLOAT16_CONVOLUTION_H_
#define KERNELS_BFLOAT16_CONVOLUTION_H_

#include <limits>

#include "bfloat16_parts.h"
#include "depthwise.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

// What a convolution's attributes and shapes say.
struct Geometry {
  int64_t samples, channels, height, width, outputs, out_height, out_width;
  int64_t kernel_height, kernel_width, stride, top, left;
  bool depthwise;
};

// The numbers of a pair such as "(3, 3)"; `otherwise` twice if there is none.
inline std::pair<int64_t, int64_t> pair_of(const NodeAttrs& attrs, const char* key, int64_t otherwise) {
  const std::string text = argument(attrs, key, "()");
  const size_t open = text.find_first_of("([") + 1, comma = text.find(',');
  if (comma == std::string::npos) return {otherwise, otherwise};
  return {std::stoll(text.substr(open)), std::stoll(text.substr(comma + 1))};
}

// Whether a convolution of these maps is one for the kernels below; what it is.
inline bool understood(const NodeAttrs& attrs, const mxnet::TShape& data, const mxnet::TShape& weight,
                       const mxnet::TShape& out, Geometry* found) {
  if (data.ndim() != 4 || weight.ndim() != 4 || out.ndim() != 4 || data.Size() == 0 || out.Size() == 0) return false;
  const auto stride = pair_of(attrs, "stride", 1), dilate = pair_of(attrs, "dilate", 1), pad = pair_of(attrs, "pad", 0);
  const std::string layout = argument(attrs, "layout", "None");
  if ((layout != "None" && layout != "NCHW") || is_flat(out)) return false;
  if (stride.first != stride.second || dilate.first != 1 || dilate.second != 1) return false;
  const int64_t groups = std::stoll(argument(attrs, "num_group", "1"));
  const bool depthwise = depthwise::is_kernel(weight, data[1], groups);
  if (groups != 1 && !depthwise) return false;
  *found = {data[0],   data[1],      data[2],    data[3],   weight[0],
            out[2],    out[3],       weight[2],  weight[3], stride.first,
            pad.first, pad.second, depthwise};
  return pad.first < weight[2] && pad.second < weight[3] && has_tiles();
}

// A sample's plane, a part of its convolution, the weights for it, what the sums of each column begin with (nothing: zero),
// and where they go.
struct Correlation {
  const Plane& plane;
  const Part& part;
  const Bits *sample, *panels;
  const float* biases;
  Bits* to;

  Correlation(const Plane& plane, const Part& part, const Bits* sample, const Bits* panels, const float* biases, Bits* to)
      : plane(plane), part(part), sample(sample), panels(panels), biases(biases), to(to), columns(part.columns()),
        numbers(part.out_width * part.outputs), pieces(part.pieces(plane)), depth(part.depth(plane)),
        count(part.count(plane)), grid(part.grid(plane)), groups(part.groups()),
        last(part.in_place(plane) ? count - kTile : count), step(part.advance * plane.channels) {}

  void run() const {
    if (part.has_gaps()) {
      for (int64_t y = 0; y < part.rows; ++y) std::memset(row(y), 0, numbers * sizeof(Bits));
    }
    for (int64_t tile = 0; tile < part.tiles() && part.down.count > 0; tile += 2) {
      const bool wide = tile + 1 < part.tiles();
      const auto own = part.pieces_of(plane, tile * kTile, 2 * kTile);
      if (own.first == own.second) continue;
      int64_t q = 0;
      if (!wide) {
        for (; q + 3 * kTile < count; q += 4 * kTile) some<4, 1>(tile, q);
      }
      for (; q < count; q += 2 * kTile) {
        with_tiles(q + kTile < count, wide, [&](auto high, auto across) {
          some<decltype(high)::value, decltype(across)::value>(tile, q);
        });
      }
    }
  }

 private:
  // The sums of groups from q on and of columns from those of a tile on, in `high` by `across` tiles.
  template <int high, int across>
  void some(int64_t tile, int64_t q) const {
    alignas(64) float sums[4][kSums];
    const Bits* panel = panels + tile * depth * kPanel;
    const auto own = part.pieces_of(plane, tile * kTile, across * kTile);
    int64_t places[high];
    const Bits* from[high];
    for (int64_t k = 0; k < high; ++k) {
      places[k] = std::min(q + k * kTile, last);
      from[k] = sample + part.beside * plane.channels + places[k] * step + own.first * kDepth;
    }
    asm volatile("" : : : "memory");  // GCC does not know that tiles are read from memory
    if (biases == nullptr) clear<high, across>();
    else load_tiles<high, across>(biases + tile * kTile, 0, kTile, 0);  // the same row in all of them
    for (int64_t y = 0; y < part.down.count; ++y) {
      const int64_t row = plane.row(part.above + y);
      const Bits* weights = panel + (y * pieces + own.first) * kPanel;
      multiply<high, across>(own.second - own.first, step * sizeof(Bits), 64, [&](int64_t k, Pieces* at) {
        for (int64_t tile = 0; tile < high; ++tile) at->rows[tile] = from[tile] + row + k * kDepth;
        at->columns[0] = weights + k * kPanel;
        at->columns[1] = weights + k * kPanel + depth * kPanel;
      });
    }
    store_tiles<high, across>(sums[0], across * kSums, kSums);
    for (int64_t k = 0; k < high; ++k) store_sums<across>(sums[k * across], places[k], tile * kTile);
  }

  Bits* row(int64_t y) const { return to + (y * part.step + part.first) * numbers; }

  // Stores the sums of 16 groups from q on and of 16 or 32 columns from `first` on.
  template <int across>
  void store_sums(const float* sums, int64_t q, int64_t first) const {
    const int64_t most = columns - first, whole = most >= across * kTile ? numbers / columns : 0;
    int64_t y = q / grid, x = q % grid;
    for (int64_t r = 0; r < kTile && y < part.rows; x = 0, ++y) {
      Bits* const own = row(y) + first;
      const int64_t end = std::min(x + kTile - r, groups), next = std::min(x + kTile - r, grid) - x;
      const float* from = sums + r * kTile;
      for (; x < std::min(end, whole); ++x, from += kTile) store_row<across>(from, own + x * columns);
      for (; x < end; ++x, from += kTile) {
        store_row<across>(from, own + x * columns, std::min(most, numbers - first - x * columns));
      }
      r += next;
    }
  }

  template <int across>
  static void store_row(const float* sums, Bits* to) {
    const __m512 low = _mm512_load_ps(sums);
    if (across == 1) store(to, low);
    else _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(sums + kSums), low));
  }

  template <int across>
  static void store_row(const float* sums, Bits* to, int64_t count) {
    for (int64_t k = 0; k < across && k * kTile < count; ++k) {
      store(to + k * kTile, _mm512_load_ps(sums + k * kSums), lanes(count - k * kTile));
    }
  }

  const int64_t columns, numbers, pieces, depth, count, grid, groups;
  const int64_t last;  // nothing behind a sample itself may be read
  const int64_t step;
};

// The biases of a part's columns.
inline std::unique_ptr<float[]> biases_of(const Part& part, const Bits* biases) {
  std::unique_ptr<float[]> all(new float[part.tiles() * kTile]());
  for (int64_t column = 0; column < part.columns(); ++column) {
    all[column] = _mm512_cvtss_f32(load(biases + column % part.outputs, 1));
  }
  return all;
}

// Computes all parts of a convolution of so many samples; a sample's output has `size` numbers. Without biases, null.
inline void correlate(const Plane& plane, const std::vector<Part>& parts, const Source& source, const Bits* biases,
                      int64_t samples, const Bits* from, int64_t size, Bits* to) {
  std::vector<Buffer> panels;
  std::vector<std::unique_ptr<float[]>> starts;
  bool copies = false;
  int64_t most = 0, rows = 0;
  for (const Part& part : parts) {
    panels.push_back(room<Bits>(part.tiles() * part.depth(plane) * kPanel));
    pack(plane, part, source, panels.back().get());
    starts.push_back(biases == nullptr ? nullptr : biases_of(part, biases));
    copies = copies || (part.down.count > 0 && !part.in_place(plane));
    most = std::max(most, part.room(plane));
    rows = std::max(rows, part.above + part.down.count);
  }
#pragma omp parallel num_threads(threads())
  {
    const Tiles tiles;
    Buffer copy;
    if (copies) copy = zeros(most);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < samples; ++n) {
      const Bits* sample = from + n * plane.in_height * plane.in_width * plane.channels;
      if (copies) lay_out(plane, rows, sample, copy.get());
      for (size_t k = 0; k < parts.size(); ++k) {
        const Bits* from = copies ? copy.get() : sample;
        Correlation(plane, parts[k], from, panels[k].get(), starts[k].get(), to + n * size).run();
      }
    }
  }
}

// A convolution's plane and parts for groups of a multiple of `smallest` positions, whichever cost least.
template <class Make>
std::pair<Plane, std::vector<Part>> cheapest(int64_t smallest, Make make) {
  std::pair<Plane, std::vector<Part>> best;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t times = 1; times <= 8; ++times) {
    auto next = make(times * smallest);
    int64_t cost = 0;
    for (const Part& part : next.second) cost += part.cost(next.first);
    if (cost < least) best = std::move(next), least = cost;
  }
  return best;
}

inline void correlate_forward(const Geometry& g, const Bits* x, const Bits* weights, const Bits* biases, Bits* to) {
  const int64_t area = g.kernel_height * g.kernel_width;
  const int64_t right = (g.out_width - 1) * g.stride + g.kernel_width - g.left - g.width;
  const auto made = cheapest(1, [&](int64_t group) {
    std::vector<Taps> across;
    for (int64_t k = 0; k < group; ++k) across.push_back({k * g.stride, g.kernel_width, 0, 1});
    const int64_t advance = group * g.stride, run = across.back().end();
    const Plane plane = {g.channels, g.stride, up(g.height + 2 * g.top, g.stride) / g.stride,
                         up(g.width + std::max(g.left, right), advance), g.top, g.left, g.height, g.width};
    const Part part = {g.outputs, g.out_width, g.out_height, 1, 0, {0, g.kernel_height, 0, 1}, across, 0, 0, run,
                       advance};
    return std::make_pair(plane, std::vector<Part>{part});
  });
  correlate(made.first, made.second, {weights, g.channels * area, area, g.kernel_width}, biases, g.samples, x,
            g.out_height * g.out_width * g.outputs, to);
}

// The outputs that reach a position of the map along one side, from the first on, with taps from the last one back.
inline Taps reaching(int64_t position, int64_t stride, int64_t kernel, int64_t border) {
  const int64_t least = (position + border) % stride;
  const int64_t count = least < kernel ? (kernel - least + stride - 1) / stride : 0;
  const int64_t last = least + (count - 1) * stride;
  return {(position + border - last) / stride, count, last, -stride};
}

// The gradient of the map. Its rows in each remainder by the stride are a part: a convolution of the gradient, with the
// taps that reach them turned around.
inline void correlate_backward(const Geometry& g, const Bits* gradient, const Bits* weights, Bits* to) {
  const int64_t area = g.kernel_height * g.kernel_width;
  const auto made = cheapest(g.stride, [&](int64_t group) {
    std::vector<Taps> across, down;
    int64_t above = 0, below = g.out_height, left = 0, first = g.out_width, end = 0, right = 0;
    for (int64_t k = 0; k < group; ++k) {
      across.push_back(reaching(k, g.stride, g.kernel_width, g.left));
      if (across.back().count <= 0) continue;
      first = std::min(first, across.back().from);
      end = std::max(end, across.back().end());
    }
    for (int64_t x = std::max<int64_t>(0, g.width - g.stride); x < g.width; ++x) {
      const Taps taps = reaching(x, g.stride, g.kernel_width, g.left);
      if (taps.count > 0) right = std::max(right, taps.end() - g.out_width);
    }
    for (int64_t y = 0; y < std::min(g.stride, g.height); ++y) {
      down.push_back(reaching(y, g.stride, g.kernel_height, g.top));
      if (down.back().count <= 0) continue;
      above = std::max(above, -down.back().from);
      below = std::max(below, (g.height - y + g.stride - 1) / g.stride - 1 + down.back().end());
    }
    for (Taps& taps : across) taps.from -= first;
    left = std::max<int64_t>(0, -first);
    const int64_t advance = group / g.stride;
    const Plane plane = {g.outputs, 1, above + below, up(g.out_width + std::max(left, right), advance), above, left,
                         g.out_height, g.out_width};
    std::vector<Part> parts;
    for (size_t y = 0; y < down.size(); ++y) {
      const int64_t rows = (g.height - y + g.stride - 1) / g.stride;
      parts.push_back({g.channels, g.width, rows, g.stride, int64_t(y), down[y], across, above + down[y].from,
                       left + first, end - first, advance});
    }
    return std::make_pair(plane, parts);
  });
  correlate(made.first, made.second, {weights, area, g.channels * area, g.kernel_width}, nullptr, g.samples, gradient,
            g.height * g.width * g.channels, to);
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_CONVOLUTION_H_
