// How operators of our own read and write bfloat16 maps: as they lie by position where an operator has a form for that, else
// as float32 in blocks. The sums and products of both are taken in float32, and their rows, (N, C) and smaller, are float32.
#ifndef KERNELS_BFLOAT16_MAPS_H_
#define KERNELS_BFLOAT16_MAPS_H_

#include "bfloat16.h"

#ifdef __AVX512BF16__

namespace kernels {
namespace narrow {

constexpr int64_t kNear = 8192;  // numbers that stay in the nearest cache from one vector of channels to the next

// The vectors of a map whose channels are a multiple of 16 need no masks.
template <bool full>
struct Lanes {
  static __m512 load(const Bits* from, __mmask16 mask) { return full ? narrow::load(from) : narrow::load(from, mask); }
  static void store(Bits* to, __m512 values, __mmask16 mask) {
    full ? narrow::store(to, values) : narrow::store(to, values, mask);
  }
};

inline __m512 row(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
inline void set_row(float* to, __m512 values, __mmask16 mask) { _mm512_mask_storeu_ps(to, mask, values); }

// Some positions of a sample at up to 16 channels: `row` is their place in (N, C), and `at(p)` that of a position's numbers.
struct Run {
  int64_t row, base, step, first, last;
  __mmask16 mask;

  int64_t at(int64_t p) const { return base + p * step; }
  bool begins() const { return first == 0; }
};

// Calls `body(Lanes, run)` for all runs of a map; those of a sample in the order of their positions, in one thread. Where
// `down`, samples come in the order opposite to that in which maps are written: the last ones are still in the cache.
template <class Body>
void for_runs(const mxnet::TShape& shape, bool down, Body body) {
  const int64_t samples = shape[0], channels = shape[1], positions = area(shape);
  const int64_t piece = std::min<int64_t>(256, std::max<int64_t>(16, kNear / std::max<int64_t>(channels, 1)));
  const auto all = [&](auto lanes_of) {
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
    for (int64_t k = 0; k < samples; ++k) {
      const int64_t n = down ? samples - 1 - k : k;
      for (int64_t first = 0; first < positions; first += piece) {
        const int64_t last = std::min(positions, first + piece);
        for (int64_t c = 0; c < channels; c += kVector) {
          body(lanes_of, Run{n * channels + c, n * positions * channels + c, channels, first, last, lanes(channels - c)});
        }
      }
    }
  };
  channels % kVector == 0 ? all(Lanes<true>()) : all(Lanes<false>());
}

// Adds two sums over a run's positions to rows, which its first run sets. `add(p, a, b)` adds a position's numbers. There
// are four sums of each, so that an addition need not wait for the one before it.
template <class Add>
inline __attribute__((always_inline)) void add_up(const Run& run, float* first, float* second, Add add) {
  __m512 a[4] = {}, b[4] = {};
  int64_t p = run.first;
  for (; p + 4 <= run.last; p += 4) {
    for (int64_t k = 0; k < 4; ++k) add(p + k, &a[k], &b[k]);
  }
  for (; p < run.last; ++p) add(p, &a[0], &b[0]);
  const __m512 sum = (a[0] + a[1]) + (a[2] + a[3]), other = (b[0] + b[1]) + (b[2] + b[3]);
  set_row(first + run.row, run.begins() ? sum : row(first + run.row, run.mask) + sum, run.mask);
  set_row(second + run.row, run.begins() ? other : row(second + run.row, run.mask) + other, run.mask);
}

// Where to compute a map by position; `deliver` then moves it to its destination.
class Result {
 public:
  Result(const NDArray& array, OpReqType request) : array_(array), request_(request) {
    if (overwrites({request}) && takes(array)) {
      data_ = write(array);
    } else {
      copy_ = room<Bits>(array.shape().Size());
      data_ = copy_.get();
    }
  }

  Bits* data() { return data_; }

  void deliver() {
    if (copy_ == nullptr || request_ == mxnet::kNullOp) return;
    const bool add = request_ == mxnet::kAddTo;
    const NDArray plain = add && array_.IsMKLDNNData() ? array_.Reorder2Default() : array_;
    array_.InvalidateMKLDNNData();
    const mxnet::TShape& shape = array_.shape();
    const int64_t positions = area(shape), channels = shape[1];
    const Bits* before = bits(plain);
    Bits* to = bits(array_);
    for (int64_t k = 0; k < shape[0] * channels; ++k) {
      const Bits* from = copy_.get() + k / channels * channels * positions + k % channels;
      for (int64_t p = 0; p < positions; ++p) {
        const int64_t at = k * positions + p;
        const Bits value = from[p * channels];
        to[at] = add ? rounded(number_of(before[at]) + number_of(value)) : value;
      }
    }
  }

 private:
  static float number_of(Bits value) { return _mm512_cvtss_f32(load(&value, 1)); }

  NDArray array_;
  OpReqType request_;
  Buffer copy_;
  Bits* data_;
};

// The numbers of a map as float32 in blocks, (N, C / block, H, W, block).
inline std::unique_ptr<float[]> widened(const NDArray& array, int block) {
  const mxnet::TShape& shape = array.shape();
  const int64_t positions = area(shape), channels = shape[1];
  Buffer copy;
  const Bits* from = read(array, &copy);
  std::unique_ptr<float[]> all(new float[shape.Size()]);
  float* const to = all.get();
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t group = 0; group < shape[0] * channels / block; ++group) {
    const int64_t n = group * block / channels, c = group * block % channels;
    const Bits* numbers = from + n * positions * channels + c;
    for (int64_t p = 0; p < positions; ++p) {
      const __mmask16 mask = lanes(block);
      _mm512_mask_storeu_ps(to + (group * positions + p) * block, mask, load(numbers + p * channels, mask));
    }
  }
  return all;
}

// The other way around: rounds a map in blocks into one by position.
inline void round_into(const float* from, const mxnet::TShape& shape, int block, Bits* to) {
  const int64_t positions = area(shape), channels = shape[1];
#pragma omp parallel for num_threads(threads()) if (int64_t(shape.Size()) > kSmall)
  for (int64_t group = 0; group < shape[0] * channels / block; ++group) {
    const int64_t n = group * block / channels, c = group * block % channels;
    Bits* numbers = to + n * positions * channels + c;
    for (int64_t p = 0; p < positions; ++p) {
      const __mmask16 mask = lanes(block);
      store(numbers + p * channels, _mm512_maskz_loadu_ps(mask, from + (group * positions + p) * block), mask);
    }
  }
}

}  // namespace narrow
}  // namespace kernels

#endif  // __AVX512BF16__

#endif  // KERNELS_BFLOAT16_MAPS_H_
