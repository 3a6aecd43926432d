// Gradients of the weights of bfloat16 convolutions, with AMX, and the convolution operator.
//
// A weight's gradient is a sum over positions, which therefore have to lie side by side: maps are turned, and gradients
// interleaved by pairs of positions. Both lie on one grid, on which each tap of the kernel is a shift; where there is
// no output, the gradient is zero. With a stride the grid is the output's, and the map has a plane for each remainder.
#ifndef KERNELS_BFLOAT16_WEIGHTS_H_
#define KERNELS_BFLOAT16_WEIGHTS_H_

#include "bfloat16_convolution.h"

#ifdef KERNELS_HAVE_TILES

namespace kernels {
namespace narrow {

// Numbers of what is turned at a time: about what a core's second cache holds. And positions at least, so that sums are
// loaded and stored for many products.
constexpr int64_t kTurned = 1 << 19, kEnough = 512;
constexpr int64_t kMany = 1 << 17;  // weights

// Samples are taken in strips of rows of the output, several strips together if they are small.
struct Grid {
  // `whole`: all samples together.
  Grid(const Geometry& g, bool whole)
      : width(up((g.width + 2 * g.left + g.stride - 1) / g.stride, 2)),
        down(std::min(g.stride, g.kernel_height)),
        across(std::min(g.stride, g.kernel_width)),
        channels(up(g.channels, kTile)),
        outputs(up(g.outputs, kTile)) {
    const int64_t halo = (g.kernel_height - 1) / g.stride, row = width * (down * across * channels + outputs);
    strip = whole ? g.out_height : std::min(g.out_height, std::max<int64_t>(kTurned / row - halo, 1));
    strips = (g.out_height + strip - 1) / strip;
    height = strip + halo;
    together = std::max(kTurned / (height * row), (kEnough + positions() - 1) / positions());
    together = whole ? g.samples : std::min(g.samples * strips, together);
    depth = up(together * positions(), kDepth);
    const int64_t furthest = halo * width + (g.kernel_width - 1) / g.stride;
    length = up(depth + furthest + kDepth, 2 * kDepth) + kDepth;  // odd lines, so that rows do not meet in a cache
  }
  int64_t positions() const { return width * height; }

  int64_t width, height, strip, strips;  // of a strip's map; rows of its output, and how many a sample has
  int64_t down, across;                  // remainders by the stride that taps reach
  int64_t channels, outputs;
  int64_t together;  // strips
  int64_t depth;     // of the sums: all their positions
  int64_t length;    // of a channel's row
};

// Turns up to 8 positions of 16 channels, `step` apart, into 16 rows of `count` numbers.
inline void turn(const Bits* from, int64_t step, int64_t count, __mmask16 mask, Bits* to, int64_t length) {
  const __mmask8 wanted = count >= 8 ? 0xff : (1u << count) - 1;
  __m256i row[8], pairs[8];
  for (int k = 0; k < 8; ++k) row[k] = k < count ? _mm256_maskz_loadu_epi16(mask, from + k * step) : __m256i{};
  for (int k = 0; k < 8; k += 2) {
    pairs[k] = _mm256_unpacklo_epi16(row[k], row[k + 1]);
    pairs[k + 1] = _mm256_unpackhi_epi16(row[k], row[k + 1]);
  }
  __m256i fours[8];
  for (int half = 0; half < 8; half += 4) {
    for (int k = 0; k < 2; ++k) {
      fours[half + 2 * k] = _mm256_unpacklo_epi32(pairs[half + k], pairs[half + k + 2]);
      fours[half + 2 * k + 1] = _mm256_unpackhi_epi32(pairs[half + k], pairs[half + k + 2]);
    }
  }
  for (int k = 0; k < 4; ++k) {
    for (int high = 0; high < 2; ++high) {
      const __m256i eight = high ? _mm256_unpackhi_epi64(fours[k], fours[k + 4])
                                 : _mm256_unpacklo_epi64(fours[k], fours[k + 4]);
      const int64_t channel = 2 * k + high;  // and the one eight further on
      _mm_mask_storeu_epi16(to + channel * length, wanted, _mm256_castsi256_si128(eight));
      _mm_mask_storeu_epi16(to + (channel + 8) * length, wanted, _mm256_extracti128_si256(eight, 1));
    }
  }
}

// A strip of a sample's map (H, W, C) as rows of positions, at strip `number` of those together.
inline void turn_map(const Geometry& g, const Grid& grid, const Bits* sample, int64_t first_row, int64_t number,
                     Bits* to) {
  for (int64_t r = 0; r < grid.height * g.stride; ++r) {
    const int64_t y = first_row * g.stride - g.top + r, upper = r % g.stride;
    if (upper >= grid.down) continue;
    for (int64_t first = 0; first < g.stride; ++first) {
      const int64_t column = (first + g.left) / g.stride, side = (first + g.left) % g.stride;
      if (side >= grid.across) continue;
      Bits* row = to + (upper * grid.across + side) * grid.channels * grid.length;
      row += number * grid.positions() + r / g.stride * grid.width;
      if (y < 0 || y >= g.height) {
        for (int64_t c = 0; c < g.channels; ++c) std::memset(row + c * grid.length, 0, grid.width * sizeof(Bits));
        continue;
      }
      const int64_t count = (g.width - first + g.stride - 1) / g.stride;
      const Bits* from = sample + (y * g.width + first) * g.channels;
      for (int64_t c = 0; c < g.channels; c += kVector) {
        for (int64_t x = 0; x < count; x += 8) {
          turn(from + x * g.stride * g.channels + c, g.stride * g.channels, count - x, lanes(g.channels - c),
               row + column + c * grid.length + x, grid.length);
        }
      }
    }
  }
}

// A strip of a sample's gradient (output height, output width, O) as pairs of positions, (positions / 2, O, 2).
inline void pair_gradient(const Geometry& g, const Grid& grid, const Bits* sample, int64_t first_row, int64_t number,
                          Bits* to) {
  Bits* const strip = to + number * grid.positions() * grid.outputs;
  const int64_t rows = std::min(grid.strip, g.out_height - first_row);
  for (int64_t y = 0; y < rows; ++y) {
    const Bits* from = sample + (first_row + y) * g.out_width * g.outputs;
    Bits* row = strip + y * grid.width * grid.outputs;
    for (int64_t x = 0; x < g.out_width; x += 2, from += 2 * g.outputs, row += 2 * grid.outputs) {
      for (int64_t o = 0; o < g.outputs; o += kVector) {
        const __mmask16 mask = lanes(g.outputs - o);
        const __m256i a = _mm256_maskz_loadu_epi16(mask, from + o);
        const __m256i b = x + 1 < g.out_width ? _mm256_maskz_loadu_epi16(mask, from + g.outputs + o) : __m256i{};
        const __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
        __m256i* pairs = reinterpret_cast<__m256i*>(row + 2 * o);
        _mm256_storeu_si256(pairs, _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(pairs + 1, _mm256_permute2x128_si256(low, high, 0x31));
      }
    }
  }
  // What another strip has left there.
  std::memset(strip + rows * grid.width * grid.outputs, 0,
              (grid.height - rows) * grid.width * grid.outputs * sizeof(Bits));
}

// Where the rows of a tap begin.
inline const Bits* rows_of(const Geometry& g, const Grid& grid, const Bits* map, int64_t tap, int64_t c) {
  const int64_t y = tap / g.kernel_width, x = tap % g.kernel_width, plane = y % g.stride * grid.across + x % g.stride;
  return map + (plane * grid.channels + c) * grid.length + y / g.stride * grid.width + x / g.stride;
}

// Adds what `depth` positions give to the sums of four taps, `apart` numbers apart, of up to 16 channels and outputs.
inline void add_products_of_four(const Geometry& g, const Grid& grid, int64_t depth, const Bits* map,
                                 const Bits* gradient, int64_t tap, float* sums, int64_t apart) {
  const size_t sum_bytes = grid.outputs * sizeof(float);
  const Bits* rows[4];
  for (int64_t k = 0; k < 4; ++k) rows[k] = rows_of(g, grid, map, tap + k, 0);
  asm volatile("" : : : "memory");
  _tile_loadd(0, sums, sum_bytes);
  _tile_loadd(1, sums + apart, sum_bytes);
  _tile_loadd(2, sums + 2 * apart, sum_bytes);
  _tile_loadd(3, sums + 3 * apart, sum_bytes);
  multiply_four(depth / kDepth, grid.length * sizeof(Bits), 2 * grid.outputs * sizeof(Bits),
                [&](int64_t k, Pieces* at) {
                  for (int64_t one = 0; one < 4; ++one) at->rows[one] = rows[one] + k * kDepth;
                  at->columns[0] = gradient + k * kDepth * grid.outputs;
                });
  _tile_stored(0, sums, sum_bytes);
  _tile_stored(1, sums + apart, sum_bytes);
  _tile_stored(2, sums + 2 * apart, sum_bytes);
  _tile_stored(3, sums + 3 * apart, sum_bytes);
}

// Adds what `depth` positions give to the sums of one tap, of up to 32 channels from `c` and outputs from `o` on.
inline void add_products(const Geometry& g, const Grid& grid, int64_t depth, const Bits* map, const Bits* gradient,
                         int64_t tap, int64_t c, int64_t o, float* sums, int64_t row) {
  const Bits* rows = rows_of(g, grid, map, tap, c);
  const Bits* columns = gradient + 2 * o;
  const size_t sum_bytes = row * sizeof(float), row_bytes = grid.length * sizeof(Bits);
  const size_t column_bytes = 2 * grid.outputs * sizeof(Bits);
  float* const lower = sums + kTile * row;
  with_tiles(c + kTile < grid.channels, o + kTile < grid.outputs, [&](auto high, auto across) {
    constexpr bool tall = decltype(high)::value == 2, broad = decltype(across)::value == 2;
    asm volatile("" : : : "memory");
    _tile_loadd(0, sums, sum_bytes);
    if (broad) _tile_loadd(1, sums + kTile, sum_bytes);
    if (tall) _tile_loadd(2, lower, sum_bytes);
    if (tall && broad) _tile_loadd(3, lower + kTile, sum_bytes);
    multiply<decltype(high)::value, decltype(across)::value>(
        depth / kDepth, row_bytes, column_bytes, [&](int64_t k, Pieces* at) {
          at->rows[0] = rows + k * kDepth;
          at->rows[1] = rows + k * kDepth + kTile * grid.length;
          at->columns[0] = columns + k * kDepth * grid.outputs;
          at->columns[1] = columns + k * kDepth * grid.outputs + 2 * kTile;
        });
    _tile_stored(0, sums, sum_bytes);
    if (broad) _tile_stored(1, sums + kTile, sum_bytes);
    if (tall) _tile_stored(2, lower, sum_bytes);
    if (tall && broad) _tile_stored(3, lower + kTile, sum_bytes);
  });
}

// The sums of a thread's strips.
inline void sum_strips(const Geometry& g, const Grid& grid, int64_t begin, int64_t end, const Bits* maps,
                       const Bits* gradients, float* sums) {
  const Tiles tiles;
  const int64_t pairs = grid.depth * grid.outputs;
  Buffer turned(new Bits[grid.down * grid.across * grid.channels * grid.length]()), paired(new Bits[pairs]());
  for (int64_t first = begin; first < end; first += grid.together) {
    const int64_t count = std::min(grid.together, end - first);
    for (int64_t k = 0; k < count; ++k) {
      const int64_t n = (first + k) / grid.strips, row = (first + k) % grid.strips * grid.strip;
      turn_map(g, grid, maps + n * g.height * g.width * g.channels, row, k, turned.get());
      pair_gradient(g, grid, gradients + n * g.out_height * g.out_width * g.outputs, row, k, paired.get());
    }
    const int64_t used = count * grid.positions();
    std::fill(paired.get() + used * grid.outputs, paired.get() + pairs, 0);  // of the strips before
    const int64_t taps = g.kernel_height * g.kernel_width, apart = grid.channels * grid.outputs;
    int64_t done = 0;
    for (; grid.channels == kTile && grid.outputs == kTile && done + 4 <= taps; done += 4) {
      add_products_of_four(g, grid, up(used, kDepth), turned.get(), paired.get(), done, sums + done * apart, apart);
    }
    for (int64_t o = 0; o < grid.outputs; o += 2 * kTile) {
      for (int64_t c = 0; c < grid.channels; c += 2 * kTile) {
        for (int64_t tap = done; tap < taps; ++tap) {
          float* const own = sums + (tap * grid.channels + c) * grid.outputs + o;
          add_products(g, grid, up(used, kDepth), turned.get(), paired.get(), tap, c, o, own, grid.outputs);
        }
      }
    }
  }
}

// The gradient of many weights, each of which is summed up over all samples at once: sums of a thread's samples would
// not fit into its caches.
inline void correlate_many_weights(const Geometry& g, const Bits* maps, const Bits* gradients, Bits* to) {
  const Grid grid(g, true);
  const int64_t taps = g.kernel_height * g.kernel_width, block = 2 * kTile;
  const int64_t rows = up(grid.channels, block) / block, blocks = rows * (up(grid.outputs, block) / block);
  Buffer turned(new Bits[grid.down * grid.across * grid.channels * grid.length]);
  Buffer paired(new Bits[grid.depth * grid.outputs]);
#pragma omp parallel num_threads(threads())
  {
    const Tiles tiles;
#pragma omp for
    for (int64_t row = 0; row < grid.down * grid.across * grid.channels; ++row) {  // borders, and what is behind
      std::memset(turned.get() + row * grid.length, 0, grid.length * sizeof(Bits));
    }
#pragma omp for
    for (int64_t n = 0; n < g.samples; ++n) {
      turn_map(g, grid, maps + n * g.height * g.width * g.channels, 0, n, turned.get());
      Bits* const own = paired.get() + n * grid.positions() * grid.outputs;
      std::memset(own, 0, (n + 1 < g.samples ? grid.positions() : grid.depth - n * grid.positions()) * grid.outputs *
                              sizeof(Bits));
      pair_gradient(g, grid, gradients + n * g.out_height * g.out_width * g.outputs, 0, n, paired.get());
    }
    std::unique_ptr<float[]> sums(new float[taps * block * block]);
#pragma omp for
    for (int64_t k = 0; k < blocks; ++k) {
      const int64_t c = k % rows * block, o = k / rows * block;
      std::fill(sums.get(), sums.get() + taps * block * block, 0.0f);
      for (int64_t tap = 0; tap < taps; ++tap) {
        add_products(g, grid, grid.depth, turned.get(), paired.get(), tap, c, o, sums.get() + tap * block * block,
                     block);
      }
      for (int64_t output = o; output < std::min(g.outputs, o + block); ++output) {
        for (int64_t channel = c; channel < std::min(g.channels, c + block); ++channel) {
          const float* from = sums.get() + (channel - c) * block + output - o;
          Bits* const own = to + (output * g.channels + channel) * taps;
          for (int64_t tap = 0; tap < taps; ++tap) own[tap] = rounded(from[tap * block * block]);
        }
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
  const int64_t taps = g.kernel_height * g.kernel_width, size = taps * grid.channels * grid.outputs;
  std::unique_ptr<float[]> sums(new float[parts * size]);
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    float* const own = sums.get() + part * size;
    std::fill(own, own + size, 0.0f);
    sum_strips(g, grid, strips * part / parts, strips * (part + 1) / parts, maps, gradients, own);
  }
  const float* const all = sums.get();
#pragma omp parallel for num_threads(threads()) if (size > kSmall)
  for (int64_t first = 0; first < g.outputs; first += kVector) {
    const int64_t last = std::min(g.outputs, first + kVector);
    for (int64_t c = 0; c < g.channels; ++c) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        const float* from = all + (tap * grid.channels + c) * grid.outputs + first;
        __m512 total = _mm512_loadu_ps(from);
        for (int64_t part = 1; part < parts; ++part) total += _mm512_loadu_ps(from + part * size);
        alignas(32) Bits rounded[kVector];
        store(rounded, total);
        for (int64_t o = first; o < last; ++o) to[(o * g.channels + c) * taps + tap] = rounded[o - first];
      }
    }
  }
}

// Weights in the plain layout, whatever MXNet has done to them.
inline const Bits* plain_weights(const NDArray& weight, NDArray* copy) {
  *copy = weight.IsMKLDNNData() ? weight.Reorder2Default() : weight;
  return bits(*copy);
}

inline bool convolution(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs, const Requests& requests,
                        const Arrays& outputs) {
  Geometry g;
  if (inputs.size() != 2 || !are_narrow(inputs) || !are_narrow(outputs) || !overwrites(requests)) return false;
  if (!takes(outputs[0]) ||
      !understood(attrs, inputs[0].shape(), inputs[1].shape(), outputs[0].shape(), &g)) {
    return false;
  }
  Buffer copy;
  NDArray weights;
  const Bits* x = read(inputs[0], &copy);
  const Bits* w = plain_weights(inputs[1], &weights);
  correlate_forward(g, x, w, write(outputs[0]));
  return true;
}

// (gradient, map, weights) -> (gradient of the map, of the weights)
inline bool convolution_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& inputs,
                                 const Requests& requests, const Arrays& outputs) {
  Geometry g;
  if (inputs.size() != 3 || outputs.size() != 2 || !are_narrow(inputs) || !are_narrow(outputs)) return false;
  const bool of_map = requests[0] != mxnet::kNullOp, of_weights = requests[1] != mxnet::kNullOp;
  if (requests[0] == mxnet::kAddTo || requests[1] == mxnet::kAddTo || (of_map && !takes(outputs[0]))) return false;
  if (!understood(attrs, inputs[1].shape(), inputs[2].shape(), inputs[0].shape(), &g)) return false;
  Buffer copies[2];
  NDArray weights;
  const Bits *gradient = read(inputs[0], &copies[0]), *x = read(inputs[1], &copies[1]);
  if (of_weights) {
    NDArray target = outputs[1];
    target.InvalidateMKLDNNData();
    correlate_weights(g, x, gradient, bits(target));
  }
  if (of_map) {
    const Bits* w = plain_weights(inputs[2], &weights);
    correlate_backward(g, gradient, w, write(outputs[0]));
  }
  return true;
}

}  // namespace narrow
}  // namespace kernels

#endif  // KERNELS_HAVE_TILES

#endif  // KERNELS_BFLOAT16_WEIGHTS_H_
