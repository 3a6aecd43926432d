// The first convolution, which reads the image: one to four plain planes of floats, a vector of which holds no block.
#pragma once
#include "convolution.h"

// Numbers: channels (1 to 4), height, width, kernel, stride, border, output blocks, parts along the rows, input (plain),
// output, weights (panel, kernel row, kernel column, channel, outputs), epilogue.
class Stem : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Stem(in)); }
  explicit Stem(Reader& in) {
    kind = "stem";
    channels_ = in.number(1, 4);
    h_ = in.extent();
    w_ = in.extent();
    kernel_ = in.number(1, 32);
    stride_ = in.number(1, 32);
    border_ = in.number(0, 32);
    out_blocks_ = in.extent();
    padded_h_ = h_ + 2 * border_;
    padded_w_ = w_ + 2 * border_;
    if (padded_h_ < kernel_ || padded_w_ < kernel_) invalid("a kernel is larger than the image");
    oh_ = (padded_h_ - kernel_) / stride_ + 1;
    ow_ = (padded_w_ - kernel_) / stride_ + 1;
    parts_ = in.number(1, oh_);
    from_ = in.tensor(times(channels_, h_, w_));
    to_ = in.tensor(times(out_blocks_, oh_ * ow_, L));
    weights_ = in.weights(times(out_blocks_ * L, kernel_ * kernel_, channels_));
    epilogue_.read(in, out_blocks_ * L, oh_ * ow_, parts_);
    for (int64_t r = 0; r < kernel_; ++r) offsets_.push_back(r * padded_w_ * channels_);
    macs = double(channels_ * kernel_ * kernel_) * double(out_blocks_ * L) * double(oh_ * ow_);
  }
  int64_t units() const override { return parts_; }
  int64_t scratch() const override { return 2 * (out_blocks_ + 1) * L + times(rows_of(parts_ == 1 ? oh_ : oh_ / parts_ + 1), padded_w_, channels_) + 64; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t part = first; part < last; ++part) rows(frame, image, part, part * oh_ / parts_, (part + 1) * oh_ / parts_);
  }

 private:
  int64_t rows_of(int64_t outputs) const { return (outputs - 1) * stride_ + kernel_; }
  void rows(const Frame& frame, int64_t image, int64_t part, int64_t begin, int64_t end) const {
    const int64_t P = oh_ * ow_, row = padded_w_ * channels_;
    V* sums = reinterpret_cast<V*>(frame.scratch);
    V* maxima = sums + out_blocks_ + 1;
    float* packed = frame.scratch + 2 * (out_blocks_ + 1) * L;
    for (int64_t b = 0; b <= out_blocks_; ++b) { sums[b] = V{}; maxima[b] = all(-INFINITY); }
    // The rows that these outputs read, channels innermost, with their border.
    const float* x = from_.at(frame, image);
    for (int64_t r = 0; r < rows_of(end - begin); ++r) {
      float* to = packed + r * row;
      const int64_t source = begin * stride_ + r - border_;
      memset(to, 0, size_t(row) * 4);
      if (source < 0 || source >= h_) continue;
      for (int64_t c = 0; c < channels_; ++c) {
        const float* line = x + (c * h_ + source) * w_;
        for (int64_t q = 0; q < w_; ++q) to[(q + border_) * channels_ + c] = line[q];
      }
    }
    float* y = to_.at(frame, image);
    for (int64_t block = 0; block < out_blocks_; block += 2) {
      const int wide = block + 1 < out_blocks_ ? 2 : 1;
      const After after = epilogue_.after(frame, image, y, sums + block, maxima + block);
      const float* w = weights_ + block * L * kernel_ * kernel_ * channels_;
      for (int64_t r = begin; r < end; ++r) {
        const float* xr = packed + (r - begin) * stride_ * row;
        float* to = y + (block * P + r * ow_) * L;
        const int64_t lanes = kernel_ * channels_;
        if (wide == 2) {
          if (lanes == 21) positions<2, 21>(ow_, xr, offsets_.data(), kernel_, lanes, stride_ * channels_, w, to, P * L, block * L, after);
          else if (lanes == 9) positions<2, 9>(ow_, xr, offsets_.data(), kernel_, lanes, stride_ * channels_, w, to, P * L, block * L, after);
          else positions<2, 0>(ow_, xr, offsets_.data(), kernel_, lanes, stride_ * channels_, w, to, P * L, block * L, after);
        } else {
          positions<1, 0>(ow_, xr, offsets_.data(), kernel_, lanes, stride_ * channels_, w, to, P * L, block * L, after);
        }
        epilogue_.then(frame, image, y, block, wide, r * ow_, ow_, sums + block, maxima + block);
      }
    }
    for (int64_t b = 0; b < out_blocks_; ++b) epilogue_.pools.put(frame, image, part, b, sums[b], maxima[b]);
  }
  int64_t channels_, h_, w_, kernel_, stride_, border_, out_blocks_, padded_h_, padded_w_, oh_, ow_, parts_;
  Tensor from_, to_;
  const float* weights_;
  Epilogue epilogue_;
  std::vector<int64_t> offsets_;
};
