// Feature maps in bfloat16 or in unsigned bytes, for convolutions that multiply such numbers several at a time.
//
// A narrow map lies position by position: (H + 2 b, W + 2 b, pitch), all channels of a position side by side, with a
// border of b positions around it that stands for zeros. A convolution reads a row of its kernel as one long sum over
// neighbouring bytes. A byte q is the number (q - zero) * scale; bfloat16 is the upper half of a float.
#pragma once
#include <algorithm>

#include "plan.h"

typedef uint32_t VU __attribute__((vector_size(L * 4), aligned(4), may_alias));
typedef uint8_t VB __attribute__((vector_size(L * 4), aligned(1), may_alias));

enum Kind : int64_t { BFLOAT16, BYTES, KINDS };

// L numbers of one or two bytes as whole numbers of four, and back: GCC makes poor code of conversions of vector types.
#ifdef __AVX512F__
static inline VI widened(const uint8_t* p) { return (VI)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
static inline VI widened_pairs(const uint8_t* p) { return (VI)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
static inline void lower_bytes(uint8_t* p, VI v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)v)); }
static inline void lower_pairs(uint8_t* p, VU v) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)v)); }
// The nearest bytes to numbers; NaN becomes 0, or some byte.
static inline void store_bytes(uint8_t* p, V v) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32((__m512)maxv(v, V{}))));
}
// As to_bfloat16, for processors that have the instruction. As text, since functions with a target are not inlined here.
static inline void to_bfloat16_by_instruction(uint8_t* p, V v) {
  __m256i made;
  asm("vcvtneps2bf16 %1, %0" : "=v"(made) : "v"(v));
  _mm256_storeu_si256((__m256i*)p, made);
}
static inline void pair_to_bfloat16(uint8_t* p, V low, V high) {
  __m512i made;
  asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(made) : "v"(low), "v"(high));
  _mm512_storeu_si512(p, made);
}
#else
static inline VI widened(const uint8_t* p) { return (VI)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
static inline VI widened_pairs(const uint8_t* p) { return (VI)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)); }
static inline __m128i lower_halves(__m256i v) {  // of numbers below 2^16
  return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
static inline void lower_bytes(uint8_t* p, VI v) {
  const __m128i pairs = lower_halves((__m256i)v);
  _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(pairs, pairs));
}
static inline void lower_pairs(uint8_t* p, VU v) { _mm_storeu_si128((__m128i*)p, lower_halves((__m256i)(v & 0xffff))); }
static inline void store_bytes(uint8_t* p, V v) {
  lower_bytes(p, (VI)_mm256_cvtps_epi32((__m256)minv(maxv(v, V{}), all(255.0f))));
}
static inline void to_bfloat16_by_instruction(uint8_t* p, V v) { lower_pairs(p, (VU)v >> 16); }  // is never called here
static inline void pair_to_bfloat16(uint8_t* p, V low, V high) {
  to_bfloat16_by_instruction(p, low);
  to_bfloat16_by_instruction(p + 2 * L, high);
}
#endif

static inline bool has_bfloat16() {
#ifdef __AVX512F__
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}
static inline V from_bfloat16(const uint8_t* p) { return (V)(widened_pairs(p) << 16); }
// Rounds to the nearest, and halves to even. NaN stays NaN, whatever its bits were.
static inline VU rounded_bfloat16(V v) {
  const VU word = (VU)v;
  return (v == v ? word + 0x7fff + (word >> 16 & 1) : VU{} + 0x7fc00000) >> 16;
}
static inline void to_bfloat16(uint8_t* p, V v) { lower_pairs(p, rounded_bfloat16(v)); }
static inline V from_bytes(const uint8_t* p, V scale, V zero) {
  return (__builtin_convertvector(widened(p), V) - zero) * scale;
}
static inline VI rounded_byte(V v, V inverse, V zero) {  // NaN becomes 0
  const V magic = all(12582912.0f);  // adding it rounds to whole numbers, see lanes.h
  return (VI)(minv(maxv(v * inverse + zero, V{}), all(255.0f)) + magic) & 255;
}
static inline void to_bytes(uint8_t* p, V v, V inverse, V zero) { store_bytes(p, v * inverse + zero); }

struct Narrow {
  static constexpr int64_t SLACK = 64;  // bytes behind the map that a convolution may read, and multiplies by zero
  Kind kind = BFLOAT16;
  int64_t size = 2, pitch = 0, height = 0, width = 0, border = 0;
  float scale = 1, inverse = 1, zero = 0;
  bool instruction = false;  // the processor has one that rounds to bfloat16
  Tensor tensor;

  // Numbers: kind, pitch, height and width without the border, border, scale, zero, tensor.
  void read(Reader& in) {
    kind = Kind(in.number(0, KINDS - 1));
    size = kind == BYTES ? 1 : 2;
    pitch = in.extent();
    if (pitch * size % 4) invalid("%lld channels are no whole words", (long long)pitch);
    height = in.extent();
    width = in.extent();
    border = in.number(0, 1 << 10);
    scale = in.real();
    inverse = 1.0f / scale;
    zero = in.real();
    tensor = in.tensor((bytes() + SLACK + 3) / 4);
    instruction = has_bfloat16();
  }
  // As what a map of so many channels and positions is stored in, or added from.
  void read(Reader& in, int64_t channels, int64_t positions) {
    read(in);
    if (pitch < channels || times(height, width) != positions)
      invalid("a narrow map of %lld channels and %lld x %lld positions is another than its map", (long long)pitch,
              (long long)height, (long long)width);
  }
  int64_t full_width() const { return width + 2 * border; }
  int64_t full_height() const { return height + 2 * border; }
  int64_t bytes() const { return times(full_height(), full_width(), pitch, size); }
  uint8_t* at(const Frame& frame, int64_t image) const { return reinterpret_cast<uint8_t*>(tensor.at(frame, image)); }
  // Where a channel of a position lies.
  int64_t place(int64_t y, int64_t x, int64_t channel) const {
    return (((y + border) * full_width() + x + border) * pitch + channel) * size;
  }
  int64_t step() const { return pitch * size; }

  // `count` positions from `position` on, counted row by row without the border, of L channels: f(place, which).
  template <typename F>
  void each(int64_t position, int64_t channel, int64_t count, F f) const {
    int64_t y = position / width, x = position % width;
    int64_t at = place(y, x, channel);
    for (int64_t u = 0; u < count; ++u, at += step()) {
      if (x == width) {
        x = 0;
        at += 2 * border * step();
      }
      f(at, u);
      ++x;
    }
  }
  void store(const Frame& frame, int64_t image, int64_t position, int64_t channel, int64_t count, const V* v) const {
    uint8_t* to = at(frame, image);
    if (kind == BYTES) each(position, channel, count, [&](int64_t p, int64_t u) { to_bytes(to + p, v[u], all(inverse), all(zero)); });
    else each(position, channel, count, [&](int64_t p, int64_t u) { put(to + p, v[u]); });
  }
  void put(uint8_t* p, V v) const {  // a number of bfloat16
    if (instruction) to_bfloat16_by_instruction(p, v);
    else to_bfloat16(p, v);
  }
  // f(numbers, which) of the same.
  template <typename F>
  void take(const Frame& frame, int64_t image, int64_t position, int64_t channel, int64_t count, F f) const {
    const uint8_t* from = at(frame, image);
    if (kind == BYTES) each(position, channel, count, [&](int64_t p, int64_t u) { f(from_bytes(from + p, all(scale), all(zero)), u); });
    else each(position, channel, count, [&](int64_t p, int64_t u) { f(from_bfloat16(from + p), u); });
  }
};

// The byte, or both bytes, of the number that stands for zero.
static inline int zero_byte(const Narrow& map) {
  return map.kind == BYTES && map.zero >= 0 && map.zero <= 255 ? int(map.zero) : 0;
}

// Numbers: a narrow map. Fills its border, and the slack behind it, with what stands for zero.
class Edge : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Edge(in)); }
  explicit Edge(Reader& in) {
    kind = "edge";
    map_.read(in);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    uint8_t* at = map_.at(frame, image);
    const int zero = zero_byte(map_);
    const int64_t row = map_.full_width() * map_.step(), side = map_.border * map_.step();
    memset(at, zero, size_t(map_.border * row));
    for (int64_t y = map_.border; y < map_.border + map_.height; ++y) {
      memset(at + y * row, zero, size_t(side));
      memset(at + (y + 1) * row - side, zero, size_t(side));
    }
    memset(at + (map_.border + map_.height) * row, zero, size_t(map_.border * row));
    memset(at + map_.bytes(), 0, size_t(Narrow::SLACK));
  }

 private:
  Narrow map_;
};

// Numbers: stride, rows and columns of the border to leave out, narrow map with its border, how many phases, narrow map
// without one: phase (a, b) has every stride-th row from row a and column from column b on, and lies below the one before
// it. A convolution with a stride finds neighbouring outputs' inputs side by side there, row after row.
class Phases : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Phases(in)); }
  explicit Phases(Reader& in) {
    kind = "phases";
    stride_ = in.number(2, 64);
    from_.read(in);
    top_ = in.number(0, from_.border);
    left_ = in.number(0, from_.border);
    phases_ = in.number(1, stride_ * stride_);
    to_.read(in);
    if (from_.kind != to_.kind || from_.pitch != to_.pitch || to_.border || to_.height % phases_) invalid("narrow maps of phases differ");
  }
  int64_t units() const override { return to_.height; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const uint8_t* x = from_.at(frame, image);
    uint8_t* to = to_.at(frame, image);
    const int64_t rows = to_.height / phases_, step = from_.step();
    const int zero = zero_byte(to_);
    for (int64_t r = first; r < last; ++r) {
      const int64_t y = top_ + r / rows / stride_ + r % rows * stride_, x0 = left_ + r / rows % stride_;
      const int64_t left = from_.full_width() - x0;
      const int64_t inside = y < from_.full_height() && left > 0 ? std::min(to_.width, (left + stride_ - 1) / stride_) : 0;
      uint8_t* row = to + r * to_.width * step;
      const uint8_t* at = x + (y * from_.full_width() + x0) * step;
      // A damaged plan may let both maps overlap, which memcpy does not allow.
      for (int64_t q = 0; q < inside; ++q) memmove(row + q * step, at + q * stride_ * step, size_t(step));
      memset(row + inside * step, zero, size_t((to_.width - inside) * step));
    }
    if (last == to_.height) memset(to + to_.bytes(), 0, size_t(Narrow::SLACK));
  }

 private:
  int64_t stride_, top_, left_, phases_;
  Narrow from_, to_;
};

// Numbers: kernel height and width, stride height and width, border top and left, two narrow maps of one scale: the maxima
// of windows over the first, of which what lies outside is left out.
class NarrowPool : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new NarrowPool(in)); }
  explicit NarrowPool(Reader& in) {
    kind = "narrow pool";
    for (int64_t& side : kernel_) side = in.extent();
    for (int64_t& side : stride_) side = in.extent();
    for (int k = 0; k < 2; ++k) border_[k] = in.number(0, kernel_[k] - 1);
    from_.read(in);
    to_.read(in);
    if (from_.kind != to_.kind || from_.pitch != to_.pitch || from_.step() % (L * to_.size)) invalid("narrow maps of a pool differ");
    if ((to_.height - 1) * stride_[0] - border_[0] >= from_.height || (to_.width - 1) * stride_[1] - border_[1] >= from_.width)
      invalid("a window lies outside its map");
  }
  int64_t units() const override { return to_.height; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    if (from_.kind == BYTES) {
      const int64_t wide = from_.pitch / (4 * L) * (4 * L);
      rows<4 * L>(frame, image, first, last, 0, wide, [](const uint8_t* p) { return *(const VB*)p; }, [](uint8_t* p, VB v) { *(VB*)p = v; });
      rows<L>(frame, image, first, last, wide, from_.pitch, [](const uint8_t* p) { return __builtin_convertvector(widened(p), V); }, store_bytes);
    } else {
      // They are already rounded.
      rows<L>(frame, image, first, last, 0, from_.pitch, from_bfloat16, [](uint8_t* p, V v) { lower_pairs(p, (VU)v >> 16); });
    }
  }

 private:
  static V larger(V a, V b) { return maxv(a, b); }
  static VB larger(VB a, VB b) { return a > b ? a : b; }
  // Channels `begin` to `end` of some rows, `C` at a time.
  template <int C, typename F, typename G>
  void rows(const Frame& frame, int64_t image, int64_t first, int64_t last, int64_t begin, int64_t end, F value, G put) const {
    const uint8_t* x = from_.at(frame, image);
    uint8_t* to = to_.at(frame, image);
    const int64_t step = from_.step(), row = from_.full_width() * step;
    for (int64_t r = first; r < last; ++r)
      for (int64_t q = 0; q < to_.width; ++q) {
        const int64_t y0 = r * stride_[0] - border_[0], x0 = q * stride_[1] - border_[1];
        const int64_t ya = std::max<int64_t>(0, y0), yz = std::min(from_.height, y0 + kernel_[0]);
        const int64_t xa = std::max<int64_t>(0, x0), xz = std::min(from_.width, x0 + kernel_[1]);
        const uint8_t* at = x + from_.place(ya, xa, begin);
        uint8_t* p = to + to_.place(r, q, begin);
        for (int64_t c = begin; c < end; c += C, at += C * from_.size, p += C * to_.size) {
          auto most = value(at);
          for (int64_t a = 0; a < yz - ya; ++a)
            for (int64_t b = 0; b < xz - xa; ++b) most = larger(value(at + a * row + b * step), most);
          put(p, most);
        }
      }
  }
  int64_t kernel_[2], stride_[2], border_[2];
  Narrow from_, to_;
};

// Numbers: channels (1 to 4), image (plain planes), narrow map: the image with its colours side by side, border included.
class Image : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Image(in)); }
  explicit Image(Reader& in) {
    kind = "image";
    channels_ = in.number(1, 4);
    Reader ahead = in;
    from_ = in.tensor(0);
    to_.read(in);
    if (to_.pitch != 4) invalid("an image has a pitch of 4");
    ahead.tensor(times(channels_, to_.height, to_.width));
  }
  int64_t units() const override { return to_.height; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const float* x = from_.at(frame, image);
    uint8_t* to = to_.at(frame, image);
    const int64_t plane = to_.height * to_.width;
    for (int64_t y = first; y < last; ++y) {
      uint8_t* row = to + to_.place(y, 0, 0);
      for (int64_t q = 0; q < to_.width; q += L) {
        const float* from = x + y * to_.width + q;
        const int64_t count = std::min<int64_t>(L, to_.width - q), bytes = count * 4 * to_.size;
        VU made[2];
        if (count == L) {
          pixels(made, [&](int64_t c) { return load(from + c * plane); });
          memcpy(row + q * 4 * to_.size, made, size_t(4 * L));
          if (to_.kind != BYTES) memcpy(row + q * 8 + 4 * L, made + 1, size_t(4 * L));
        } else {
          pixels(made, [&](int64_t c) {
            V v = {};
            memcpy(&v, from + c * plane, size_t(count) * 4);
            return v;
          });
          memcpy(row + q * 4 * to_.size, made, size_t(bytes));
        }
      }
    }
  }

 private:
  // L pixels of the planes f(channel): four bytes each, or four halves of floats.
  template <typename F>
  void pixels(VU (&made)[2], F f) const {
    VU words[2] = {};  // of each pixel: all four bytes, or two halves of floats in each
    for (int64_t c = 0; c < channels_; ++c) {
      const V v = f(c);
      if (to_.kind == BYTES) words[0] |= (VU)rounded_byte(v, all(to_.inverse), all(to_.zero)) << unsigned(8 * c);
      else words[c / 2] |= rounded_bfloat16(v) << unsigned(c % 2 * 16);
    }
    made[0] = words[0];
    if (to_.kind == BYTES) return;
    VU first, second;  // words of both in turn
    for (int l = 0; l < L; ++l) {
      first[l] = uint32_t(l / 2 + l % 2 * L);
      second[l] = uint32_t((L + l) / 2 + l % 2 * L);
    }
    made[0] = __builtin_shuffle(words[0], words[1], first);
    made[1] = __builtin_shuffle(words[0], words[1], second);
  }
  int64_t channels_;
  Tensor from_;
  Narrow to_;
};
