// Convolutions of bfloat16 maps and the gradients of the maps, with AMX.
//
// A sample is copied into a plane with a border of zeros, (rows, width, C). What a row of the kernel meets is then a
// run of numbers side by side, of kernel width times C, and so are the runs of the next position: a tile's rows are 16
// positions, wherever they lie in the plane. Sums at positions between the rows of the output are thrown away.
#ifndef KERNELS_BFLOAT16_CONVOLUTION_H_
#define KERNELS_BFLOAT16_CONVOLUTION_H_

#include <vector>

#include "bfloat16_tiles.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

inline int64_t up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// What a convolution's attributes and shapes say.
struct Geometry {
  int64_t samples, channels, height, width, outputs, out_height, out_width;
  int64_t kernel_height, kernel_width, stride, top, left;
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
  const std::string biased = argument(attrs, "no_bias", "False"), layout = argument(attrs, "layout", "None");
  if (biased == "False" || biased == "false" || biased == "0" || (layout != "None" && layout != "NCHW")) return false;
  if (argument(attrs, "num_group", "1") != "1" || stride.first != stride.second || dilate.first != 1 ||
      dilate.second != 1 || is_flat(out)) {
    return false;
  }
  *found = {data[0],   data[1],      data[2],    data[3],   weight[0],
            out[2],    out[3],       weight[2],  weight[3], stride.first,
            pad.first, pad.second};
  return pad.first < weight[2] && pad.second < weight[3] && has_tiles();
}

// A sample with its border: (rows, width, channels).
struct Plane {
  int64_t channels, rows, width, top, left, in_height, in_width;

  // With what is read behind it, and comes to nothing.
  int64_t size(int64_t stride) const {
    return (rows + 1) * width * channels + (2 * kTile * stride + width) * channels + kDepth;
  }
  bool is_sample() const { return rows == in_height && width == in_width; }
};

// What a convolution computes at positions `step` apart, from (y, x) on, with some taps of the weights.
struct Part {
  int64_t outputs, out_height, out_width;  // computed here
  int64_t step, y, x, full_width;          // where they go
  int64_t kernel_height, kernel_width, stride;
  int64_t above, beside;  // where in the plane the first tap of the first output is

  int64_t pieces(const Plane& plane) const { return up(kernel_width * plane.channels, kDepth) / kDepth; }
  int64_t depth(const Plane& plane) const { return kernel_height * pieces(plane); }
  int64_t panels(const Plane& plane) const { return up(outputs, kTile) / kTile * depth(plane) * kPanel; }
  // Sums are taken on a grid of so many positions in a row: the plane's own, or one of whole tiles for strides.
  int64_t grid(const Plane& plane) const { return stride == 1 ? plane.width : up(out_width, kTile); }
  int64_t count(const Plane& plane) const {
    return stride == 1 ? (out_height - 1) * plane.width + out_width : out_height * grid(plane);
  }
  int64_t place(const Plane& plane, int64_t q) const {
    const int64_t row = q / grid(plane), column = q % grid(plane);
    return ((row * stride + above) * plane.width + column * stride + beside) * plane.channels;
  }
  // Whether the sample itself can serve as its plane.
  bool in_place(const Plane& plane) const {
    return plane.is_sample() && stride == 1 && kernel_height == 1 && kernel_width == 1 && above == 0 && beside == 0 &&
           plane.channels % kDepth == 0 && count(plane) >= kTile;
  }
};

// Where the numbers of a weight (O, C, kernel height, kernel width) lie for a part of a convolution.
struct Source {
  const Bits* weights;
  int64_t output_step, channel_step, width;  // `width` of the kernel
  int64_t y, x, step;                        // of the part's first tap, and to the next one
};

// Packs a part's weights: for each 16 outputs, and each piece of a run, (16, 16, 2).
inline void pack(const Plane& plane, const Part& part, const Source& from, Bits* to) {
  const int64_t depth = part.depth(plane), blocks = up(part.outputs, kTile) / kTile;
#pragma omp parallel for num_threads(threads()) if (blocks * depth * kPanel > kSmall)
  for (int64_t block = 0; block < blocks; ++block) {
    Bits* const panel = to + block * depth * kPanel;
    std::memset(panel, 0, depth * kPanel * sizeof(Bits));
    const int64_t outputs = std::min(kTile, part.outputs - block * kTile);
    for (int64_t o = 0; o < outputs; ++o) {
      const Bits* const weights = from.weights + (block * kTile + o) * from.output_step;
      for (int64_t y = 0; y < part.kernel_height; ++y) {
        Bits* const row = panel + y * part.pieces(plane) * kPanel + 2 * o;
        for (int64_t x = 0; x < part.kernel_width; ++x) {
          const Bits* tap = weights + (from.y + y * from.step) * from.width + from.x + x * from.step;
          for (int64_t c = 0; c < plane.channels; ++c) {
            const int64_t k = x * plane.channels + c;
            row[k / 2 * 2 * kTile + k % 2] = tap[c * from.channel_step];
          }
        }
      }
    }
  }
}

// Copies a sample into its plane, whose border is zero already.
inline void lay_out(const Plane& plane, const Bits* sample, Bits* to) {
  const int64_t row = plane.in_width * plane.channels;
  for (int64_t y = 0; y < plane.in_height; ++y) {
    std::memcpy(to + ((plane.top + y) * plane.width + plane.left) * plane.channels, sample + y * row,
                row * sizeof(Bits));
  }
}

// Stores the sums of 16 positions from q on and of outputs from `first` on.
inline void store_sums(const Part& part, int64_t grid, const float* sums, int64_t q, int64_t first, Bits* to) {
  const __mmask16 mask = lanes(part.outputs - first);
  const int64_t stride = part.step * part.outputs;
  int64_t y = q / grid, x = q % grid;
  for (int64_t r = 0; r < kTile && y < part.out_height; x = 0, ++y) {
    const int64_t count = std::min(kTile - r, grid - x), inside = std::min(count, part.out_width - x);
    Bits* out = to + ((y * part.step + part.y) * part.full_width + x * part.step + part.x) * part.outputs + first;
    const float* from = sums + r * kTile;
    int64_t k = 0;
    if (part.step == 1 && part.outputs == kTile) {  // side by side
      for (; k + 2 <= inside; k += 2, from += 2 * kTile, out += 2 * kTile) {
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(from + kTile), _mm512_load_ps(from)));
      }
    }
    if (mask == 0xffff) {
      for (; k < inside; ++k, from += kTile, out += stride) store(out, _mm512_load_ps(from));
    } else {
      for (; k < inside; ++k, from += kTile, out += stride) store(out, _mm512_load_ps(from), mask);
    }
    r += count;
  }
}

// A sample's plane, a part of its convolution, the weights for it, and where the sums go.
struct Correlation {
  const Plane& plane;
  const Part& part;
  const Bits *sample, *panels;
  Bits* to;

  Correlation(const Plane& plane, const Part& part, const Bits* sample, const Bits* panels, Bits* to)
      : plane(plane), part(part), sample(sample), panels(panels), to(to), pieces(part.pieces(plane)),
        depth(part.depth(plane)), count(part.count(plane)), grid(part.grid(plane)),
        last(part.in_place(plane) ? count - kTile : count), step(part.stride * plane.channels * sizeof(Bits)) {}

  void run() const {
    for (int64_t first = 0; first < part.outputs; first += 2 * kTile) {
      const bool across = first + kTile < part.outputs;
      int64_t q = 0;
      if (!across) {
        for (; q + 3 * kTile < count; q += 4 * kTile) four(first, q);
      }
      for (; q < count; q += 2 * kTile) {
        with_tiles(q + kTile < count, across, [&](auto high, auto wide) {
          some<decltype(high)::value, decltype(wide)::value>(first, q);
        });
      }
    }
  }

 private:
  // The sums of positions from q on and of outputs from `first` on, in up to two by two tiles.
  template <int high, int across>
  void some(int64_t first, int64_t q) const {
    alignas(64) float sums[4][kTile * kTile];
    const Bits* panel = panels + first / kTile * depth * kPanel;
    const int64_t one = std::min(q, last), two = std::min(q + kTile, last);
    asm volatile("" : : : "memory");  // GCC does not know that tiles are read from memory
    _tile_zero(0);
    if (across == 2) _tile_zero(1);
    if (high == 2) _tile_zero(2);
    if (high == 2 && across == 2) _tile_zero(3);
    const Bits *upper = sample + part.place(plane, one), *lower = sample + part.place(plane, two);
    for (int64_t y = 0; y < part.kernel_height; ++y) {
      const int64_t row = y * plane.width * plane.channels;
      const Bits* columns = panel + y * pieces * kPanel;
      multiply<high, across>(pieces, step, 64, [&](int64_t k, Pieces* at) {
        at->rows[0] = upper + row + k * kDepth;
        at->rows[1] = lower + row + k * kDepth;
        at->columns[0] = columns + k * kPanel;
        at->columns[1] = columns + k * kPanel + depth * kPanel;
      });
    }
    _tile_stored(0, sums[0], 64);
    if (across == 2) _tile_stored(1, sums[1], 64);
    if (high == 2) _tile_stored(2, sums[2], 64);
    if (high == 2 && across == 2) _tile_stored(3, sums[3], 64);
    store_sums(part, grid, sums[0], one, first, to);
    if (across == 2) store_sums(part, grid, sums[1], one, first + kTile, to);
    if (high == 2) store_sums(part, grid, sums[2], two, first, to);
    if (high == 2 && across == 2) store_sums(part, grid, sums[3], two, first + kTile, to);
  }

  // The same for four tiles of positions and up to 16 outputs.
  void four(int64_t first, int64_t q) const {
    alignas(64) float sums[4][kTile * kTile];
    const Bits* panel = panels + first / kTile * depth * kPanel;
    int64_t places[4];
    const Bits* from[4];
    for (int64_t k = 0; k < 4; ++k) {
      places[k] = std::min(q + k * kTile, last);
      from[k] = sample + part.place(plane, places[k]);
    }
    asm volatile("" : : : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t y = 0; y < part.kernel_height; ++y) {
      const int64_t row = y * plane.width * plane.channels;
      const Bits* columns = panel + y * pieces * kPanel;
      multiply_four(pieces, step, 64, [&](int64_t k, Pieces* at) {
        for (int64_t tile = 0; tile < 4; ++tile) at->rows[tile] = from[tile] + row + k * kDepth;
        at->columns[0] = columns + k * kPanel;
      });
    }
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (int64_t k = 0; k < 4; ++k) store_sums(part, grid, sums[k], places[k], first, to);
  }

  const int64_t pieces, depth, count, grid;
  const int64_t last;  // nothing behind a sample itself may be read
  const size_t step;
};

// A part without taps.
inline void store_zeros(const Part& part, Bits* to) {
  for (int64_t y = 0; y < part.out_height; ++y) {
    for (int64_t x = 0; x < part.out_width; ++x) {
      const int64_t position = (y * part.step + part.y) * part.full_width + x * part.step + part.x;
      std::memset(to + position * part.outputs, 0, part.outputs * sizeof(Bits));
    }
  }
}

// Computes all parts of a convolution of so many samples; a sample's output has `size` numbers.
inline void correlate(const Plane& plane, const std::vector<Part>& parts, const std::vector<Source>& sources,
                      int64_t samples, const Bits* from, int64_t size, Bits* to) {
  std::vector<Buffer> panels;
  bool copies = false;
  int64_t room = 0;
  for (size_t k = 0; k < parts.size(); ++k) {
    const bool empty = parts[k].kernel_height == 0 || parts[k].kernel_width == 0;
    panels.emplace_back(empty ? nullptr : new Bits[parts[k].panels(plane)]);
    if (empty) continue;
    pack(plane, parts[k], sources[k], panels[k].get());
    copies = copies || !parts[k].in_place(plane);
    room = std::max(room, plane.size(parts[k].stride));
  }
#pragma omp parallel num_threads(threads())
  {
    const Tiles tiles;
    Buffer copy;
    if (copies) copy.reset(new Bits[room]());
#pragma omp for schedule(static)
    for (int64_t n = 0; n < samples; ++n) {
      const Bits* sample = from + n * plane.in_height * plane.in_width * plane.channels;
      if (copies) lay_out(plane, sample, copy.get());
      for (size_t k = 0; k < parts.size(); ++k) {
        if (panels[k] == nullptr) store_zeros(parts[k], to + n * size);
        else Correlation(plane, parts[k], copies ? copy.get() : sample, panels[k].get(), to + n * size).run();
      }
    }
  }
}

inline void correlate_forward(const Geometry& g, const Bits* x, const Bits* weights, Bits* to) {
  const int64_t area = g.kernel_height * g.kernel_width;
  const Plane plane = {g.channels, g.height + 2 * g.top, g.width + 2 * g.left, g.top, g.left, g.height, g.width};
  const Part part = {g.outputs, g.out_height, g.out_width, 1, 0, 0, g.out_width, g.kernel_height, g.kernel_width,
                     g.stride, 0, 0};
  const Source source = {weights, g.channels * area, area, g.kernel_width, 0, 0, 1};
  correlate(plane, {part}, {source}, g.samples, x, g.out_height * g.out_width * g.outputs, to);
}

// Along one side: the taps that reach positions `first`, `first + stride`, ... of a map, from the last one back.
struct Reach {
  Reach(int64_t first, int64_t stride, int64_t kernel, int64_t border, int64_t length)
      : count((length - first + stride - 1) / stride) {
    const int64_t least = (first + border) % stride;
    taps = least < kernel ? (kernel - least + stride - 1) / stride : 0;
    last = least + (taps - 1) * stride;
    from = (first + border - last) / stride;  // the output that the last tap reaches for the first position
  }
  int64_t count, taps, last, from;
};

// The gradient of the map. Its positions in each remainder by the stride are a part: a convolution of the gradient,
// with the taps that reach them turned around.
inline void correlate_backward(const Geometry& g, const Bits* gradient, const Bits* weights, Bits* to) {
  const int64_t area = g.kernel_height * g.kernel_width;
  std::vector<Reach> down, across;
  Plane plane = {g.outputs, g.out_height, g.out_width, 0, 0, g.out_height, g.out_width};
  for (int64_t first = 0; first < g.stride; ++first) {
    down.emplace_back(first, g.stride, g.kernel_height, g.top, g.height);
    across.emplace_back(first, g.stride, g.kernel_width, g.left, g.width);
    if (down.back().taps > 0) plane.top = std::max(plane.top, -down.back().from);
    if (across.back().taps > 0) plane.left = std::max(plane.left, -across.back().from);
  }
  plane.rows += plane.top;
  plane.width += plane.left;
  for (const Reach& one : down) {
    if (one.taps > 0) plane.rows = std::max(plane.rows, plane.top + one.from + one.count + one.taps - 1);
  }
  for (const Reach& one : across) {
    if (one.taps > 0) plane.width = std::max(plane.width, plane.left + one.from + one.count + one.taps - 1);
  }
  std::vector<Part> parts;
  std::vector<Source> sources;
  for (int64_t y = 0; y < g.stride; ++y) {
    for (int64_t x = 0; x < g.stride; ++x) {
      if (down[y].count <= 0 || across[x].count <= 0) continue;
      parts.push_back({g.channels, down[y].count, across[x].count, g.stride, y, x, g.width, down[y].taps,
                       across[x].taps, 1, plane.top + down[y].from, plane.left + across[x].from});
      sources.push_back({weights, area, g.channels * area, g.kernel_width, down[y].last, across[x].last, -g.stride});
    }
  }
  correlate(plane, parts, sources, g.samples, gradient, g.height * g.width * g.channels, to);
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_CONVOLUTION_H_
