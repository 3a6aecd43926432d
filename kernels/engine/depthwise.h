// Convolutions of each channel by itself, of any kernel, stride, dilation and border.
#pragma once
#include "convolution.h"

// Numbers: blocks, kernel height and width, stride, dilation, border above and below, border left and right, height and
// width, parts, whether a unit is a part of all blocks, input, output, weights (block, kernel row, kernel column, lane),
// epilogue.
class Depthwise : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Depthwise(in)); }
  explicit Depthwise(Reader& in) {
    kind = "depthwise";
    blocks_ = in.extent();
    kernel_h_ = in.number(1, 32);
    kernel_w_ = in.number(1, 32);
    stride_ = in.number(1, 32);
    dilation_ = in.number(1, 32);
    top_ = in.number(0, 256);
    left_ = in.number(0, 256);
    ih_ = in.extent();
    iw_ = in.extent();
    const int64_t reach_h = (kernel_h_ - 1) * dilation_ + 1, reach_w = (kernel_w_ - 1) * dilation_ + 1;
    if (ih_ + 2 * top_ < reach_h || iw_ + 2 * left_ < reach_w) invalid("a kernel is larger than its map");
    oh_ = (ih_ + 2 * top_ - reach_h) / stride_ + 1;
    ow_ = (iw_ + 2 * left_ - reach_w) / stride_ + 1;
    parts_ = in.number(1, oh_);
    whole_ = in.number(0, 1) != 0;
    from_ = in.tensor(times(blocks_, ih_, iw_, L));
    to_ = in.tensor(times(blocks_, oh_ * ow_, L));
    weights_ = in.weights(times(blocks_, kernel_h_ * kernel_w_, L));
    epilogue_.read(in, blocks_ * L, oh_ * ow_, parts_);
    // Columns whose kernels lie inside.
    inner_ = std::min(ow_, (left_ + stride_ - 1) / stride_);
    const int64_t room = iw_ + left_ - reach_w;
    outer_ = std::max(inner_, room < 0 ? 0 : std::min(ow_, room / stride_ + 1));
    macs = double(kernel_h_ * kernel_w_) * double(blocks_ * L) * double(oh_ * ow_);
  }
  int64_t units() const override { return whole_ ? parts_ : blocks_ * parts_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit) {
      if (whole_) some(frame, image, unit, 0, blocks_);
      else some(frame, image, unit % parts_, unit / parts_, unit / parts_ + 1);
    }
  }

 private:
  // A part of the rows of blocks `begin` to `end`.
  void some(const Frame& frame, int64_t image, int64_t part, int64_t begin, int64_t end) const {
    for (int64_t block = begin; block < end; ++block) {
      V sum = {}, most = all(-INFINITY);
      for (int64_t r = part * oh_ / parts_; r < (part + 1) * oh_ / parts_; ++r) {
        if (kernel_w_ == 3 && dilation_ == 1 && stride_ == 1) row<3, 1>(frame, image, block, r, &sum, &most);
        else if (kernel_w_ == 3 && dilation_ == 1 && stride_ == 2) row<3, 2>(frame, image, block, r, &sum, &most);
        else if (kernel_w_ == 5 && dilation_ == 1 && stride_ == 1) row<5, 1>(frame, image, block, r, &sum, &most);
        else if (kernel_w_ == 5 && dilation_ == 1 && stride_ == 2) row<5, 2>(frame, image, block, r, &sum, &most);
        else row<0, 0>(frame, image, block, r, &sum, &most);
      }
      epilogue_.pools.put(frame, image, part, block, sum, most);
    }
  }
  static constexpr int U = 4;  // neighbours, whose sums do not wait for each other
  template <int K, int S>
  void row(const Frame& frame, int64_t image, int64_t block, int64_t r, V* sums, V* maxima) const {
    const int64_t kw = K ? K : kernel_w_, stride = S ? S : stride_, dilation = K ? 1 : dilation_;
    const int64_t y0 = r * stride - top_;
    // The kernel's rows that lie inside.
    const int64_t a0 = y0 < 0 ? (-y0 + dilation - 1) / dilation : 0;
    const int64_t a1 = std::min(kernel_h_, y0 >= ih_ ? 0 : (ih_ - 1 - y0) / dilation + 1);
    const float* x = from_.at(frame, image) + block * ih_ * iw_ * L;
    float* image_out = to_.at(frame, image);
    const int64_t place = (block * oh_ + r) * ow_ * L;
    const float* w = weights_ + block * kernel_h_ * kw * L;
    const After after = epilogue_.after(frame, image, image_out, sums, maxima);
    const V bias = load(after.bias + block * L), gate = after.gate ? load(after.gate + block * L) : V{};
    V sum = {}, most = all(-INFINITY);
    const float* joined = (after.residual ? after.residual : image_out) + place;
    const auto finish = [&](V value, int64_t q) {
      value = after.of(value, gate, joined + q * L);
      sum += value;
      most = maxv(most, value);
      store(image_out + place + q * L, value);
    };
    const auto at_edge = [&](int64_t q) {
      V v = bias;
      for (int64_t a = a0; a < a1; ++a)
        for (int64_t b = 0; b < kw; ++b) {
          const int64_t column = q * stride - left_ + b * dilation;
          if (column >= 0 && column < iw_) v += load(w + (a * kw + b) * L) * load(x + ((y0 + a * dilation) * iw_ + column) * L);
        }
      finish(v, q);
    };
    int64_t q = 0;
    for (; q < inner_; ++q) at_edge(q);
    for (; q + U <= outer_; q += U) {
      V v[U] = {bias, bias, bias, bias};
      for (int64_t a = a0; a < a1; ++a) {
        const float* from = x + ((y0 + a * dilation) * iw_ + q * stride - left_) * L;
#pragma GCC unroll 5
        for (int64_t b = 0; b < kw; ++b) {
          const V t = load(w + (a * kw + b) * L);
          for (int u = 0; u < U; ++u) v[u] += t * load(from + (b * dilation + u * stride) * L);
        }
      }
      for (int u = 0; u < U; ++u) finish(v[u], q + u);
    }
    for (; q < ow_; ++q) at_edge(q);
    if (after.sums) *after.sums += sum;
    if (after.maxima) *after.maxima = maxv(*after.maxima, most);
    epilogue_.then(frame, image, image_out, block, 1, r * ow_, ow_, sums, maxima);
  }
  int64_t blocks_, kernel_h_, kernel_w_, stride_, dilation_, top_, left_, ih_, iw_, oh_, ow_, parts_, inner_, outer_;
  bool whole_;
  Tensor from_, to_;
  const float* weights_;
  Epilogue epilogue_;
};
