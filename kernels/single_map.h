// A convolution to a single map as one operator, `_single_map`, with its gradients: that of the spatial gates of CBAM.
//
// Inputs: x (N, C, H, W), weight (1, C, K, K). Output: y (N, 1, H', W'). Argument: `pad`, of all sides; the stride is 1.
//
// oneDNN has no kernel for one output. Here positions lie side by side: on a sample's maps with their border, a tap of
// the kernel is a shift, the same for all positions, so that a vector of them takes one multiply-add a tap. Sums are also
// computed at positions of the border, and left out when the result is copied.
#ifndef KERNELS_SINGLE_MAP_H_
#define KERNELS_SINGLE_MAP_H_

#include <cstdlib>

#include "fused.h"
#include "simd.h"

namespace kernels {

#ifdef __AVX512F__
constexpr int64_t kSide = 16;  // positions of a vector
#else
constexpr int64_t kSide = 8;
#endif
constexpr int64_t kVectors = 4;  // sums at a time, for none to wait for itself
constexpr int64_t kStretch = kSide * kVectors;

// Maps of one sample with a border, and room behind them for vectors that begin inside.
class Bordered {
 public:
  Bordered(int64_t maps, int64_t height, int64_t width, int64_t border, int64_t kernel)
      : width(width + 2 * border), maps_(maps), height_(height), inside_(width), border_(border),
        size_((height + 2 * border + kernel) * this->width + kernel + kStretch), values_(maps * size_) {}

  float* map(int64_t number) { return values_.data() + number * size_; }
  const float* map(int64_t number) const { return values_.data() + number * size_; }

  void fill(const float* from) {
    for (int64_t m = 0; m < maps_; ++m) {
      for (int64_t y = 0; y < height_; ++y, from += inside_) {
        std::copy(from, from + inside_, map(m) + (y + border_) * width + border_);
      }
    }
  }

  const int64_t width;

 private:
  const int64_t maps_, height_, inside_, border_, size_;
  std::vector<float> values_;
};

struct SingleMapCall {
  int64_t samples, channels, height, width, kernel, pad;

  SingleMapCall(const NodeAttrs& attrs, const mxnet::TShape& map, const mxnet::TShape& weight)
      : samples(map[0]), channels(map[1]), height(map[2]), width(map[3]), kernel(weight[2]),
        pad(std::atoi(argument(attrs, "pad", "0").c_str())) {}
  int64_t out_height() const { return height + 2 * pad - kernel + 1; }
  int64_t out_width() const { return width + 2 * pad - kernel + 1; }
  int64_t taps() const { return kernel * kernel; }
};

// Adds up `maps` bordered maps times their taps, (maps, kernel, kernel), at the positions of a (height, width) result.
inline void correlate_maps(const Bordered& from, int64_t maps, const float* taps, int64_t kernel, int64_t height,
                           int64_t width, float* row, float* to) {
  typedef Simd<kSide> S;
  const int64_t count = (height - 1) * from.width + width;
  for (int64_t q = 0; q < count; q += kStretch) {
    typename S::Floats sums[kVectors] = {};
    const float* tap = taps;
    for (int64_t m = 0; m < maps; ++m) {
      for (int64_t y = 0; y < kernel; ++y) {
        const float* at = from.map(m) + q + y * from.width;
        for (int64_t x = 0; x < kernel; ++x, ++tap) {
          const typename S::Floats by = S::all(*tap);
          for (int64_t k = 0; k < kVectors; ++k) sums[k] += S::load(at + x + k * kSide) * by;
        }
      }
    }
    for (int64_t k = 0; k < kVectors; ++k) S::store(row + q + k * kSide, sums[k]);
  }
  for (int64_t y = 0; y < height; ++y) std::copy(row + y * from.width, row + y * from.width + width, to + y * width);
}

// Room for the sums of all positions between the first and the last of a result.
inline std::vector<float> room_for(const Bordered& from, int64_t height) {
  return std::vector<float>(height * from.width + kStretch);
}

inline void single_map(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays, const Requests& requests,
                       const Arrays& outputs) {
  const Arrays inputs = inputs_of("_single_map", arrays, outputs);
  const SingleMapCall call(attrs, inputs[0].shape(), inputs[1].shape());
  const MapInput x(inputs[0], kPlain), weight(inputs[1], kPlain);
  MapResult y(outputs[0], requests[0], kPlain);
  const int64_t size = call.channels * call.height * call.width, area = call.out_height() * call.out_width();
  float* const to = y.data();
#pragma omp parallel num_threads(threads()) if (call.samples * size > kSmall)
  {
    Bordered maps(call.channels, call.height, call.width, call.pad, call.kernel);
    std::vector<float> row = room_for(maps, call.out_height());
#pragma omp for schedule(static)
    for (int64_t n = 0; n < call.samples; ++n) {
      maps.fill(x.data + n * size);
      correlate_maps(maps, call.channels, weight.data, call.kernel, call.out_height(), call.out_width(), row.data(),
                     to + n * area);
    }
  }
  y.deliver();
}

// Sums over positions of a gradient (height, width) times a bordered map, for each tap.
inline void sum_taps(const Bordered& map, int64_t number, const float* gradient, int64_t kernel, int64_t height,
                     int64_t width, float* sums) {
  typedef Simd<kSide> S;
  const int64_t whole = width / kSide * kSide;
  float left[kSide] = {};
  for (int64_t ky = 0; ky < kernel; ++ky) {
    for (int64_t kx = 0; kx < kernel; kx += kVectors) {
      typename S::Floats total[kVectors] = {};
      for (int64_t y = 0; y < height; ++y) {
        const float *g = gradient + y * width, *at = map.map(number) + (y + ky) * map.width + kx;
        for (int64_t x = 0; x < whole; x += kSide) {
          const typename S::Floats by = S::load(g + x);
          for (int64_t k = 0; k < kVectors; ++k) total[k] += by * S::load(at + x + k);
        }
        if (whole == width) continue;
        std::copy(g + whole, g + width, left);
        const typename S::Floats by = S::load(left);
        for (int64_t k = 0; k < kVectors; ++k) total[k] += by * S::load(at + whole + k);
      }
      for (int64_t k = 0; k < std::min(kVectors, kernel - kx); ++k) {
        float sum = 0;
        for (int64_t lane = 0; lane < kSide; ++lane) sum += total[k][lane];
        sums[ky * kernel + kx + k] = sum;
      }
    }
  }
}

// (gradient, x, weight) -> gradients of x and of weight
inline void single_map_backward(const NodeAttrs& attrs, const OpContext&, const Arrays& arrays,
                                const Requests& requests, const Arrays& outputs) {
  const Arrays inputs = inputs_of("_single_map", arrays, outputs);
  const SingleMapCall call(attrs, inputs[1].shape(), inputs[2].shape());
  const MapInput gradient(inputs[0], kPlain), x(inputs[1], kPlain), weight(inputs[2], kPlain);
  const int64_t size = call.channels * call.height * call.width, area = call.out_height() * call.out_width();
  const int64_t taps = call.taps(), weights = call.channels * taps;
  std::vector<float> turned(weights), parts(call.samples * weights);
  for (int64_t k = 0; k < weights; ++k) turned[k] = weight.data[k / taps * taps + taps - 1 - k % taps];
  MapResult of_x(outputs[0], requests[0], kPlain);
  float* const to = of_x.data();
#pragma omp parallel num_threads(threads()) if (call.samples * size > kSmall)
  {
    Bordered maps(call.channels, call.height, call.width, call.pad, call.kernel);
    Bordered above(1, call.out_height(), call.out_width(), call.kernel - 1 - call.pad, call.kernel);
    std::vector<float> row = room_for(above, call.height);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < call.samples; ++n) {
      maps.fill(x.data + n * size);
      above.fill(gradient.data + n * area);
      for (int64_t c = 0; c < call.channels; ++c) {
        sum_taps(maps, c, gradient.data + n * area, call.kernel, call.out_height(), call.out_width(),
                 &parts[n * weights + c * taps]);
        correlate_maps(above, 1, &turned[c * taps], call.kernel, call.height, call.width, row.data(),
                       to + n * size + c * call.height * call.width);
      }
    }
  }
  of_x.deliver();
  std::vector<float> of_weight(weights);
  for (int64_t k = 0; k < weights; ++k) {
    double sum = 0;  // in the order of the samples, whatever the threads
    for (int64_t n = 0; n < call.samples; ++n) sum += parts[n * weights + k];
    of_weight[k] = static_cast<float>(sum);
  }
  deliver(of_weight, outputs[1], requests[1]);
}

inline bool single_map_shapes(const NodeAttrs& attrs, mxnet::ShapeVector* inputs, mxnet::ShapeVector* outputs) {
  const mxnet::TShape map = (*inputs)[0], weight = (*inputs)[1];
  if (!mxnet::shape_is_known(map) || !mxnet::shape_is_known(weight)) return false;
  CHECK(map.ndim() == 4 && weight.ndim() == 4 && weight[0] == 1 && weight[1] == map[1] && weight[2] == weight[3])
      << "_single_map: x is " << map << " and the weight " << weight << "; allowed are (N, C, H, W) and (1, C, K, K)";
  const SingleMapCall call(attrs, map, weight);
  CHECK(call.pad >= 0 && call.pad < call.kernel && call.out_height() > 0 && call.out_width() > 0)
      << "_single_map: pad is " << call.pad << " and the kernel " << call.kernel << " wide, for maps of " << map;
  *outputs = {mxnet::TShape({map[0], 1, call.out_height(), call.out_width()})};
  return true;
}

inline void register_single_map() {
  register_fused({"_single_map", {"x", "weight"}, {"pad"}, 1, 1, {0, 1}, {}, {}, false,
                  InferShape::make<single_map_shapes>(), single_map, single_map_backward});
}

}  // namespace kernels

#endif  // KERNELS_SINGLE_MAP_H_
