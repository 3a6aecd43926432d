// Windows over maps, and the borders that direct convolutions read.
#pragma once
#include <algorithm>

#include "plan.h"

// Numbers: blocks, height, width, kernel height and width, stride height and width, border top and left, output height
// and width, kind (0 maximum, 1 mean over what is inside, 2 mean over that and the border), input, output. What lies outside
// is left out of maxima, and of means of kind 1; what lies beyond the border, of all.
class Pool : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Pool(in)); }
  explicit Pool(Reader& in) {
    kind = "pool";
    blocks_ = in.extent();
    h_ = in.extent();
    w_ = in.extent();
    kernel_h_ = in.extent();
    kernel_w_ = in.extent();
    stride_h_ = in.extent();
    stride_w_ = in.extent();
    top_ = in.number(0, kernel_h_ - 1);
    left_ = in.number(0, kernel_w_ - 1);
    oh_ = in.extent();
    ow_ = in.extent();
    how_ = in.number(0, 2);
    from_ = in.tensor(times(blocks_, h_, w_, L));
    to_ = in.tensor(times(blocks_, oh_, ow_, L));
    // Every window has something inside.
    if ((oh_ - 1) * stride_h_ - top_ >= h_ || (ow_ - 1) * stride_w_ - left_ >= w_) invalid("a window lies outside its map");
  }
  int64_t units() const override { return blocks_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t block = first; block < last; ++block) {
      const float* x = from_.at(frame, image) + block * h_ * w_ * L;
      float* y = to_.at(frame, image) + block * oh_ * ow_ * L;
      for (int64_t r = 0; r < oh_; ++r)
        for (int64_t q = 0; q < ow_; ++q) {
          const int64_t y0 = r * stride_h_ - top_, x0 = q * stride_w_ - left_;
          const int64_t ya = std::max<int64_t>(0, y0), yz = std::min(h_, y0 + kernel_h_);
          const int64_t xa = std::max<int64_t>(0, x0), xz = std::min(w_, x0 + kernel_w_);
          V v = how_ ? V{} : all(-INFINITY);
          for (int64_t a = ya; a < yz; ++a)
            for (int64_t b = xa; b < xz; ++b) {
              const V t = load(x + (a * w_ + b) * L);
              v = how_ ? v + t : maxv(t, v);
            }
          const int64_t bordered = (std::min(h_ + top_, y0 + kernel_h_) - y0) * (std::min(w_ + left_, x0 + kernel_w_) - x0);
          if (how_) v *= all(1.0f / float(how_ == 1 ? (yz - ya) * (xz - xa) : bordered));
          store(y + (r * ow_ + q) * L, v);
        }
    }
  }

 private:
  int64_t blocks_, h_, w_, kernel_h_, kernel_w_, stride_h_, stride_w_, top_, left_, oh_, ow_, how_;
  Tensor from_, to_;
};

// Numbers: blocks, height, width, border above, left, below, right, input, output: the map with zeros around it.
class Border : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Border(in)); }
  explicit Border(Reader& in) {
    kind = "border";
    blocks_ = in.extent();
    h_ = in.extent();
    w_ = in.extent();
    for (int64_t& side : sides_) side = in.number(0, 1 << 12);
    full_h_ = h_ + sides_[0] + sides_[2];
    full_w_ = w_ + sides_[1] + sides_[3];
    from_ = in.tensor(times(blocks_, h_, w_, L));
    to_ = in.tensor(times(blocks_, full_h_, full_w_, L));
  }
  int64_t units() const override { return blocks_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const size_t lane = L * sizeof(float);
    for (int64_t block = first; block < last; ++block) {
      const float* x = from_.at(frame, image) + block * h_ * w_ * L;
      float* y = to_.at(frame, image) + block * full_h_ * full_w_ * L;
      memset(y, 0, size_t(sides_[0] * full_w_) * lane);
      y += sides_[0] * full_w_ * L;
      for (int64_t r = 0; r < h_; ++r, y += full_w_ * L) {
        memset(y, 0, size_t(sides_[1]) * lane);
        memmove(y + sides_[1] * L, x + r * w_ * L, size_t(w_) * lane);  // tensors of a damaged plan may overlap
        memset(y + (sides_[1] + w_) * L, 0, size_t(sides_[3]) * lane);
      }
      memset(y, 0, size_t(sides_[2] * full_w_) * lane);
    }
  }

 private:
  int64_t blocks_, h_, w_, sides_[4], full_h_, full_w_;
  Tensor from_, to_;
};
