// Bilinear scaling of maps with aligned corners, as needed by the masks of the Residual Attention Network.
#pragma once
#include <algorithm>

#include "narrow.h"

// Between which two rows, or columns, of the input one of the output lies, and how far from the first.
struct Between {
  int64_t first, second;
  float share;
  Between(int64_t at, int64_t inputs, int64_t outputs) {
    const float place = (outputs > 1 ? float(inputs - 1) / float(outputs - 1) : 0.0f) * float(at);
    first = std::min<int64_t>(int64_t(place), inputs - 1);
    second = first + (first < inputs - 1);
    share = place - float(first);
  }
};

// Numbers: blocks, height, width, output height, output width, input, output.
class Resize : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Resize(in)); }
  explicit Resize(Reader& in) {
    kind = "resize";
    blocks_ = in.extent();
    h_ = in.extent();
    w_ = in.extent();
    oh_ = in.extent();
    ow_ = in.extent();
    from_ = in.tensor(times(blocks_, h_, w_, L));
    to_ = in.tensor(times(blocks_, oh_, ow_, L));
  }
  int64_t units() const override { return blocks_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t block = first; block < last; ++block) {
      const float* x = from_.at(frame, image) + block * h_ * w_ * L;
      float* y = to_.at(frame, image) + block * oh_ * ow_ * L;
      for (int64_t r = 0; r < oh_; ++r) {
        const Between row(r, h_, oh_);
        const V b = all(row.share), a = 1.0f - b;
        for (int64_t q = 0; q < ow_; ++q) {
          const Between column(q, w_, ow_);
          const V d = all(column.share), c = 1.0f - d;
          const float *at0 = x + row.first * w_ * L, *at1 = x + row.second * w_ * L;
          const V above = load(at0 + column.first * L) * c + load(at0 + column.second * L) * d;
          const V below = load(at1 + column.first * L) * c + load(at1 + column.second * L) * d;
          store(y + (r * ow_ + q) * L, above * a + below * b);
        }
      }
    }
  }

 private:
  int64_t blocks_, h_, w_, oh_, ow_;
  Tensor from_, to_;
};

// Numbers: input, output: two maps in bfloat16.
class NarrowResize : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new NarrowResize(in)); }
  explicit NarrowResize(Reader& in) {
    kind = "narrow resize";
    from_.read(in);
    to_.read(in);
    if (from_.kind != BFLOAT16 || to_.kind != BFLOAT16 || from_.pitch != to_.pitch || from_.pitch % L) invalid("narrow maps of a scaling differ");
  }
  int64_t units() const override { return to_.height; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const uint8_t* x = from_.at(frame, image);
    uint8_t* to = to_.at(frame, image);
    for (int64_t r = first; r < last; ++r) {
      const Between row(r, from_.height, to_.height);
      for (int64_t q = 0; q < to_.width; ++q) {
        const Between column(q, from_.width, to_.width);
        const V b = all(row.share), a = 1.0f - b, d = all(column.share), c = 1.0f - d;
        const uint8_t* at[4] = {x + from_.place(row.first, column.first, 0), x + from_.place(row.first, column.second, 0),
                                x + from_.place(row.second, column.first, 0), x + from_.place(row.second, column.second, 0)};
        uint8_t* p = to + to_.place(r, q, 0);
        for (int64_t k = 0; k < from_.step(); k += 2 * L) {
          const V above = from_bfloat16(at[0] + k) * c + from_bfloat16(at[1] + k) * d;
          const V below = from_bfloat16(at[2] + k) * c + from_bfloat16(at[3] + k) * d;
          to_.put(p + k, above * a + below * b);
        }
      }
    }
  }

 private:
  Narrow from_, to_;
};
