// Fully connected layers on vectors, and dense layers of any rows.
#pragma once
#include "elementwise.h"

// Numbers: rows, inputs, pitch of the inputs, outputs (padded), parts, input (rows, pitch), output (rows, outputs),
// whether weights are bfloat16, weights (panel of 4 L outputs, input, output), bias, chain. Each row is a matrix product
// with the weights, which for a single row are read from memory for one multiplication each: half as wide, twice as fast.
class Dense : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Dense(in)); }
  explicit Dense(Reader& in) {
    kind = "dense";
    rows_ = in.extent();
    inputs_ = in.extent();
    pitch_ = in.number(inputs_, int64_t(1) << 24);
    outputs_ = in.extent();
    if (outputs_ % L) invalid("%lld outputs are no whole blocks", (long long)outputs_);
    parts_ = in.number(1, (outputs_ + PANEL - 1) / PANEL);
    from_ = in.tensor(times(rows_ - 1, pitch_) + inputs_);
    to_ = in.tensor(times(rows_, outputs_));
    narrow_ = in.number(0, 1) != 0;
    weights_ = in.weights(times(inputs_, (outputs_ + PANEL - 1) / PANEL * PANEL) / (narrow_ ? 2 : 1));
    bias_ = in.weights(outputs_);
    chain_ = Chain(in, outputs_, 1);
    if (rows_ > 1 && !chain_.empty()) invalid("a chain follows a single row only");
    macs = double(rows_) * double(inputs_) * double(outputs_);
  }
  int64_t units() const override { return parts_; }
  bool by_weights() const override { return parts_ > 1; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const int64_t panels = (outputs_ + PANEL - 1) / PANEL;
    first = first * panels / parts_;
    last = last * panels / parts_;
    if (narrow_) products(frame, image, first, last, [](const uint8_t* w) { return from_bfloat16(w); }, 2);
    else products(frame, image, first, last, [](const uint8_t* w) { return load(reinterpret_cast<const float*>(w)); }, 4);
  }

 private:
  template <typename F>
  void products(const Frame& frame, int64_t image, int64_t first, int64_t last, F weight, int64_t size) const {
    for (int64_t row = 0; row < rows_; ++row) {
      const float* x = from_.at(frame, image) + row * pitch_;
      float* y = to_.at(frame, image) + row * outputs_;
      for (int64_t panel = first; panel < last; ++panel) {
        const uint8_t* w = reinterpret_cast<const uint8_t*>(weights_) + panel * inputs_ * PANEL * size;
        V sums[4][2] = {};
        int64_t i = 0;
        for (; i + 2 <= inputs_; i += 2, w += 2 * PANEL * size)
          for (int k = 0; k < 4; ++k) {
            for (int64_t line = 0; line < 2 * L * size; line += 64) __builtin_prefetch(w + AHEAD_BYTES + 2 * k * L * size + line);
            sums[k][0] += all(x[i]) * weight(w + k * L * size);
            sums[k][1] += all(x[i + 1]) * weight(w + (PANEL + k * L) * size);
          }
        if (i < inputs_)
          for (int k = 0; k < 4; ++k) sums[k][0] += all(x[i]) * weight(w + k * L * size);
        for (int64_t k = 0; k < 4 && panel * PANEL + k * L < outputs_; ++k) {
          const int64_t place = panel * PANEL + k * L;
          store(y + place, sums[k][0] + sums[k][1] + load(bias_ + place));
          if (!chain_.empty()) chain_.run(frame, image, place / L, 0, 1, y + place, y + place, nullptr, nullptr);
        }
      }
    }
  }

  static constexpr int64_t PANEL = 4 * L, AHEAD_BYTES = 4096;
  int64_t rows_, inputs_, pitch_, outputs_, parts_;
  bool narrow_;
  Tensor from_, to_;
  const float *weights_, *bias_;
  Chain chain_;
};
