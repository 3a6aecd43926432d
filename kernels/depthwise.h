// Depthwise convolutions and their gradients, of maps in blocks and by position.
//
// Both are planes (height, width, channels): (N, C / block, H, W, block) has one for each block of a sample, (N, H, W, C) one
// for each sample. A row of a plane is copied once, with zeros beside its ends, and is then near for all rows of the kernel
// that meet it. A tap of the kernel at an output is a number for each channel: a register of channels takes one multiply-add.
#ifndef KERNELS_DEPTHWISE_H_
#define KERNELS_DEPTHWISE_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "layout.h"
#include "simd.h"

namespace kernels {
namespace depthwise {

constexpr int64_t kTogether = 4;  // outputs whose sums are in registers at a time

// A convolution (samples, channels, height, width) -> (samples, channels, out_height, out_width).
struct Size {
  int64_t samples, channels, height, width, out_height, out_width, kernel, stride, top, left;
};

// Numbers of a map in blocks. A register is a block.
template <int block>
struct InBlocks {
  typedef float Number;
  typedef typename Simd<block>::Floats Floats;
  static constexpr int lanes = block;
  static int64_t channels_of_plane(int64_t) { return block; }
  static Floats load(const float* from, int64_t) { return Simd<block>::load(from); }
  static void store(float* to, Floats values, int64_t) { Simd<block>::store(to, values); }
};

// Rows of a plane in float32, those that were asked for last. Columns from -`beside` to width + `beside` are there.
template <class Form>
class Rows {
  typedef typename Form::Number Number;
  typedef Simd<Form::lanes> S;

 public:
  Rows(int64_t count, int64_t width, int64_t channels, int64_t beside)
      : count_(count), width_(width), channels_(channels), beside_(beside), step_((channels + lanes - 1) / lanes * lanes),
        size_((width + 2 * beside) * step_), numbers_(count * size_), which_(count, -1) {}

  void forget() { std::fill(which_.begin(), which_.end(), -1); }

  // The number at column 0 of a row of the plane.
  const float* row(const Number* plane, int64_t y) {
    float* const own = numbers_.data() + y % count_ * size_ + beside_ * step_;
    if (which_[y % count_] == y) return own;
    which_[y % count_] = y;
    for (int64_t x = 0; x < width_; ++x) {
      const Number* from = plane + (y * width_ + x) * channels_;
      for (int64_t c = 0; c < channels_; c += lanes) {
        S::store(own + x * step_ + c, Form::load(from + c, channels_ - c));
      }
    }
    return own;
  }

 private:
  static constexpr int lanes = Form::lanes;
  const int64_t count_, width_, channels_, beside_, step_, size_;
  std::vector<float> numbers_;
  std::vector<int64_t> which_;
};

// A tap: the numbers that it meets at the first output, and its weights.
struct Tap {
  const float *from, *weights;
};

// Stores the sums over taps for `count` outputs, which meet numbers `step` apart and lie `apart` from each other.
template <class Form>
void add_taps(const std::vector<Tap>& taps, const float* biases, int64_t count, int64_t step, int64_t apart,
              int64_t channels, typename Form::Number* to) {
  typedef Simd<Form::lanes> S;
  typedef typename S::Floats Floats;
  for (int64_t c = 0; c < channels; c += Form::lanes) {
    const Floats start = biases == nullptr ? S::all(0) : S::load(biases + c);
    int64_t k = 0;
    for (; k + kTogether <= count; k += kTogether) {
      Floats sums[kTogether] = {start, start, start, start};
      for (const Tap& tap : taps) {
        const Floats by = S::load(tap.weights + c);
        const float* from = tap.from + k * step + c;
        for (int64_t j = 0; j < kTogether; ++j) sums[j] += S::load(from + j * step) * by;
      }
      for (int64_t j = 0; j < kTogether; ++j) Form::store(to + (k + j) * apart + c, sums[j], channels - c);
    }
    for (; k < count; ++k) {
      Floats sum = start;
      for (const Tap& tap : taps) sum += S::load(tap.from + k * step + c) * S::load(tap.weights + c);
      Form::store(to + k * apart + c, sum, channels - c);
    }
  }
}

// Calls `body` with the width of a kernel, which the compiler then knows.
template <class Body>
void with_width(int64_t width, Body body) {
  if (width == 3) body(std::integral_constant<int, 3>());
  else if (width == 5) body(std::integral_constant<int, 5>());
  else body(std::integral_constant<int, 7>());
}

// Adds to each tap of a row of the kernel the sums over a row of outputs of gradient times number.
template <int lanes, int width>
void add_products(const float* gradient, const float* row, int64_t count, int64_t stride, int64_t step, float* sums) {
  typedef Simd<lanes> S;
  typedef typename S::Floats Floats;
  for (int64_t c = 0; c < step; c += lanes) {
    Floats even[width] = {}, odd[width] = {};
    const auto add = [&](int64_t k, Floats* to) {
      const Floats above = S::load(gradient + k * step + c);
      for (int x = 0; x < width; ++x) to[x] += above * S::load(row + (k * stride + x) * step + c);
    };
    int64_t k = 0;
    for (; k + 2 <= count; k += 2) add(k, even), add(k + 1, odd);
    if (k < count) add(k, even);
    for (int x = 0; x < width; ++x) {
      float* const to = sums + x * step + c;
      S::store(to, S::load(to) + (even[x] + odd[x]));
    }
  }
}

template <class Form>
class Convolution {
  typedef typename Form::Number Number;
  static constexpr int lanes = Form::lanes;

 public:
  explicit Convolution(const Size& size)
      : g(size), area_(g.kernel * g.kernel), channels_(Form::channels_of_plane(g.channels)),
        groups_(g.channels / channels_), step_((channels_ + lanes - 1) / lanes * lanes) {}

  // `weights` (C, 1, kernel, kernel) and biases (C,) are in float32; without biases, null.
  void forward(const Number* x, const float* weights, const float* bias, Number* to) const {
    const std::vector<float> taps = by_tap(weights, area_), biases = by_tap(bias, bias != nullptr);
    for_rows(g.out_height, g.width, [&](Rows<Form>* rows, std::vector<Tap>* met, int64_t plane, int64_t y) {
      for (int64_t ky = 0; ky < g.kernel; ++ky) {
        const int64_t from = y * g.stride - g.top + ky;
        if (from < 0 || from >= g.height) continue;
        const float* row = rows->row(x + plane * g.height * g.width * channels_, from);
        for (int64_t kx = 0; kx < g.kernel; ++kx) {
          met->push_back({row + (kx - g.left) * step_, tap_of(taps, area_, plane, ky * g.kernel + kx)});
        }
      }
      add_taps<Form>(*met, bias == nullptr ? nullptr : tap_of(biases, 1, plane, 0), g.out_width, g.stride * step_,
                     channels_, channels_, to + (plane * g.out_height + y) * g.out_width * channels_);
    });
  }

  // The gradient of the map. Columns of each remainder by the stride meet the same taps.
  void backward(const Number* gradient, const float* weights, Number* to) const {
    const std::vector<float> taps = by_tap(weights, area_);
    for_rows(g.height, g.out_width, [&](Rows<Form>* rows, std::vector<Tap>* met, int64_t plane, int64_t y) {
      const Number* above = gradient + plane * g.out_height * g.out_width * channels_;
      for (int64_t first = 0; first < std::min(g.stride, g.width); ++first) {
        met->clear();
        for (int64_t ky = (y + g.top) % g.stride; ky < g.kernel; ky += g.stride) {
          const int64_t from = (y + g.top - ky) / g.stride;
          if (y + g.top < ky || from >= g.out_height) continue;
          const float* row = rows->row(above, from);
          for (int64_t kx = (first + g.left) % g.stride; kx < g.kernel; kx += g.stride) {
            const int64_t at = (first + g.left - kx) / g.stride;
            met->push_back({row + at * step_, tap_of(taps, area_, plane, ky * g.kernel + kx)});
          }
        }
        add_taps<Form>(*met, nullptr, (g.width - first + g.stride - 1) / g.stride, step_, g.stride * channels_, channels_,
                       to + ((plane * g.height + y) * g.width + first) * channels_);
      }
    });
  }

  // The gradient of the weights; a plane's sums are one thread's, and are added up in the order of the samples.
  std::vector<float> of_weights(const Number* x, const Number* gradient) const {
    const int64_t size = area_ * step_, planes = g.samples * groups_;
    std::vector<float> parts(planes * size);
#pragma omp parallel num_threads(threads())
    {
      Rows<Form> maps = rows_of(g.kernel, g.width), gradients = rows_of(1, g.out_width);
#pragma omp for schedule(static)
      for (int64_t plane = 0; plane < planes; ++plane) {
        maps.forget(), gradients.forget();
        for (int64_t y = 0; y < g.out_height; ++y) {
          const float* above = gradients.row(gradient + plane * g.out_height * g.out_width * channels_, y);
          for (int64_t ky = 0; ky < g.kernel; ++ky) {
            const int64_t from = y * g.stride - g.top + ky;
            if (from < 0 || from >= g.height) continue;
            const float* row = maps.row(x + plane * g.height * g.width * channels_, from) - g.left * step_;
            float* const sums = &parts[plane * size + ky * g.kernel * step_];
            with_width(g.kernel, [&](auto width) {
              add_products<lanes, decltype(width)::value>(above, row, g.out_width, g.stride, step_, sums);
            });
          }
        }
      }
    }
    std::vector<float> all(g.channels * area_);
    for (int64_t c = 0; c < g.channels; ++c) {
      for (int64_t k = 0; k < area_; ++k) {
        double sum = 0;
        for (int64_t n = 0; n < g.samples; ++n) {
          sum += parts[(n * groups_ + c / channels_) * size + k * step_ + c % channels_];
        }
        all[c * area_ + k] = static_cast<float>(sum);
      }
    }
    return all;
  }

 private:
  Rows<Form> rows_of(int64_t count, int64_t width) const { return Rows<Form>(count, width, channels_, g.kernel); }

  // Numbers (C, count) as (groups, count, channels of a plane), with zeros up to a whole register.
  std::vector<float> by_tap(const float* from, int64_t count) const {
    std::vector<float> to(groups_ * count * step_);
    for (int64_t c = 0; c < g.channels; ++c) {
      for (int64_t k = 0; k < count; ++k) to[(c / channels_ * count + k) * step_ + c % channels_] = from[c * count + k];
    }
    return to;
  }

  const float* tap_of(const std::vector<float>& taps, int64_t count, int64_t plane, int64_t k) const {
    return &taps[(plane % groups_ * count + k) * step_];
  }

  // Calls `body` for all rows of all planes, those of a strip in order and in one thread.
  template <class Body>
  void for_rows(int64_t rows, int64_t width, Body body) const {
    const int64_t planes = g.samples * groups_, strips = (threads() + planes - 1) / planes;
#pragma omp parallel num_threads(threads())
    {
      Rows<Form> own = rows_of(g.kernel, width);
      std::vector<Tap> met;
#pragma omp for schedule(static)
      for (int64_t k = 0; k < planes * strips; ++k) {
        own.forget();
        for (int64_t y = rows * (k % strips) / strips; y < rows * (k % strips + 1) / strips; ++y) {
          met.clear();
          body(&own, &met, k / strips, y);
        }
      }
    }
  }

  const Size g;
  const int64_t area_, channels_, groups_, step_;
};

// Whether a convolution's kernel is one of these, for C channels.
inline bool is_kernel(const mxnet::TShape& weight, int64_t channels, int64_t groups) {
  if (groups < 2 || groups != channels || weight.ndim() != 4 || weight[0] != channels || weight[1] != 1) return false;
  return weight[2] == weight[3] && (weight[2] == 3 || weight[2] == 5 || weight[2] == 7);
}

}  // namespace depthwise
}  // namespace kernels

#endif  // KERNELS_DEPTHWISE_H_
