// Bilinear scaling of maps with aligned corners, as needed by the masks of the Residual Attention Network.
#pragma once
#include <algorithm>

#include "plan.h"

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
    const float sy = oh_ > 1 ? float(h_ - 1) / float(oh_ - 1) : 0.0f, sx = ow_ > 1 ? float(w_ - 1) / float(ow_ - 1) : 0.0f;
    for (int64_t block = first; block < last; ++block) {
      const float* x = from_.at(frame, image) + block * h_ * w_ * L;
      float* y = to_.at(frame, image) + block * oh_ * ow_ * L;
      for (int64_t r = 0; r < oh_; ++r) {
        const float fy = sy * float(r);
        const int64_t y0 = std::min<int64_t>(int64_t(fy), h_ - 1), y1 = y0 + (y0 < h_ - 1);
        const V b = all(fy - float(y0)), a = 1.0f - b;
        for (int64_t q = 0; q < ow_; ++q) {
          const float fx = sx * float(q);
          const int64_t x0 = std::min<int64_t>(int64_t(fx), w_ - 1), x1 = x0 + (x0 < w_ - 1);
          const V d = all(fx - float(x0)), c = 1.0f - d;
          const V above = load(x + (y0 * w_ + x0) * L) * c + load(x + (y0 * w_ + x1) * L) * d;
          const V below = load(x + (y1 * w_ + x0) * L) * c + load(x + (y1 * w_ + x1) * L) * d;
          store(y + (r * ow_ + q) * L, above * a + below * b);
        }
      }
    }
  }

 private:
  int64_t blocks_, h_, w_, oh_, ow_;
  Tensor from_, to_;
};
