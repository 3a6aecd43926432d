// Convolutions of each channel of a bfloat16 map by itself, computed in float32.
//
// 64 bytes hold 2 L neighbouring channels of a position. As floats they make two vectors: the even channels, once their
// bits are shifted up, and the odd ones, once the others' bits are cleared. Weights are packed in the same order, so nothing
// is sorted until the sums of a position are complete.
#pragma once
#include "dots.h"

// Numbers: blocks, input (a narrow map), rows and columns of its border to leave out, kernel height and width, stride, dilation,
// output height and width, parts, weights (pair of blocks, kernel row, kernel column, even and odd channels, L), ending.
class NarrowDepthwise : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new NarrowDepthwise(in)); }
  explicit NarrowDepthwise(Reader& in) {
    kind = "narrow depthwise";
    blocks_ = in.extent();
    from_.read(in);
    if (from_.kind != BFLOAT16 || from_.pitch % L || times(blocks_, L) > from_.pitch)
      invalid("a depthwise convolution reads whole blocks in bfloat16");
    if (!multiplies(BFLOAT16)) invalid("the processor has no AVX512_BF16");
    const int64_t top = in.number(0, from_.border), left = in.number(0, from_.border);
    kernel_h_ = in.number(1, 64);
    kernel_w_ = in.number(1, 64);
    stride_ = in.number(1, 64);
    dilation_ = in.number(1, 64);
    oh_ = in.extent();
    ow_ = in.extent();
    if (top + (oh_ - 1) * stride_ + (kernel_h_ - 1) * dilation_ >= from_.full_height() ||
        left + (ow_ - 1) * stride_ + (kernel_w_ - 1) * dilation_ >= from_.full_width())
      invalid("a kernel reaches beyond its map");
    parts_ = in.number(1, oh_);
    weights_ = in.weights(times((blocks_ + 1) / 2, kernel_h_ * kernel_w_, 2 * L));
    ending_.read(in, BFLOAT16, blocks_ * L, oh_, ow_, parts_);
    origin_ = (top * from_.full_width() + left) * from_.step();
    row_ = from_.full_width() * from_.step();
    macs = double(kernel_h_ * kernel_w_) * double(blocks_ * L) * double(oh_ * ow_);
  }
  int64_t units() const override { return parts_; }
  int64_t scratch() const override { return 2 * blocks_ * L; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    V *sums = reinterpret_cast<V*>(frame.scratch), *maxima = sums + blocks_;
    for (int64_t part = first; part < last; ++part) {
      for (int64_t b = 0; b < blocks_; ++b) {
        sums[b] = V{};
        maxima[b] = all(-INFINITY);
      }
      for (int64_t y = part * oh_ / parts_; y < (part + 1) * oh_ / parts_; ++y)
        for (int64_t x = 0; x < ow_; x += CHUNK) some(frame, image, y, x, std::min(CHUNK, ow_ - x), sums, maxima);
      for (int64_t b = 0; b < blocks_; ++b) ending_.pools.put(frame, image, part, b, sums[b], maxima[b]);
    }
  }

 private:
  static constexpr int ACROSS = 4;  // positions, whose sums do not wait for each other

  // `count` positions of a row, all channels.
  void some(const Frame& frame, int64_t image, int64_t y, int64_t x, int64_t count, V* sums, V* maxima) const {
    alignas(64) float values[CHUNK * 2 * L];
    const uint8_t* from = from_.at(frame, image) + origin_ + y * stride_ * row_ + x * stride_ * from_.step();
    for (int64_t block = 0; block < blocks_; block += 2, from += 4 * L) {
      const float* w = weights_ + block * kernel_h_ * kernel_w_ * L;
      const bool square = kernel_h_ == kernel_w_ && dilation_ == 1;
      if (square && kernel_w_ == 3 && stride_ == 1) row<3, 1>(from, count, w, values);
      else if (square && kernel_w_ == 3 && stride_ == 2) row<3, 2>(from, count, w, values);
      else if (square && kernel_w_ == 5 && stride_ == 1) row<5, 1>(from, count, w, values);
      else for (int64_t q = 0; q < count; ++q) any(from + q * stride_ * from_.step(), w, values + q * 2 * L);
      const int blocks = block + 1 < blocks_ ? 2 : 1;
      ending_.put(frame, image, block, blocks, y, x, count, reinterpret_cast<const int32_t*>(values), sums + block, maxima + block);
    }
  }
  template <int K, int S>
  void row(const uint8_t* x, int64_t count, const float* w, float* to) const {
    if (count < ACROSS) {
      for (int64_t q = 0; q < count; ++q) group<K, S, 1>(x + q * S * from_.step(), w, to + q * 2 * L);
      return;
    }
    // The last group begins earlier where positions are left over, some of which it computes once more.
    for (int64_t q = 0; q < count; q += ACROSS) {
      const int64_t first = std::min(q, count - ACROSS);
      group<K, S, ACROSS>(x + first * S * from_.step(), w, to + first * 2 * L);
    }
  }
  // U neighbouring positions: each input is converted once for all of them.
  template <int K, int S, int U>
  void group(const uint8_t* x, const float* w, float* to) const {
    V even[U] = {}, odd[U] = {};
    for (int a = 0; a < K; ++a, x += row_) {
#pragma GCC unroll 16
      for (int j = 0; j < (U - 1) * S + K; ++j) {
        const VU both = *reinterpret_cast<const VU*>(x + j * from_.step());
        const V first = (V)(both << 16), second = (V)(both & 0xffff0000u);
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) {
          const int b = j - u * S;
          if (b < 0 || b >= K) continue;
          even[u] += first * load(w + 2 * (a * K + b) * L);
          odd[u] += second * load(w + (2 * (a * K + b) + 1) * L);
        }
      }
    }
    for (int u = 0; u < U; ++u) sorted(even[u], odd[u], to + 2 * u * L);
  }
  void any(const uint8_t* x, const float* w, float* to) const {
    V even = {}, odd = {};
    for (int64_t a = 0; a < kernel_h_; ++a)
      for (int64_t b = 0; b < kernel_w_; ++b, w += 2 * L) {
        const VU both = *reinterpret_cast<const VU*>(x + a * dilation_ * row_ + b * dilation_ * from_.step());
        even += (V)(both << 16) * load(w);
        odd += (V)(both & 0xffff0000u) * load(w + L);
      }
    sorted(even, odd, to);
  }
  static inline void sorted(V even, V odd, float* to) {
    VI first, second;
    for (int l = 0; l < L; ++l) {
      first[l] = l / 2 + l % 2 * L;
      second[l] = (L + l) / 2 + l % 2 * L;
    }
    store(to, __builtin_shuffle(even, odd, first));
    store(to + L, __builtin_shuffle(even, odd, second));
  }

  Narrow from_;
  int64_t kernel_h_, kernel_w_, stride_, dilation_, oh_, ow_, parts_, blocks_, origin_, row_;
  const float* weights_;
  Ending ending_;
};
