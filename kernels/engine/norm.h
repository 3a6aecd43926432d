// Group norms: the scale and shift of each channel of a map, from the statistics of its group.
#pragma once
#include <algorithm>
#include <numeric>

#include "plan.h"

// Numbers: channels, groups, positions, epsilon (float bits), input map, output scale and shift (padded channels). The
// map times its scale plus its shift has mean 0 and variance 1 in every group; a chain applies them. Two passes, since
// the variance as a difference of two large means would lose its digits.
class GroupNorm : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new GroupNorm(in)); }
  explicit GroupNorm(Reader& in) {
    kind = "group norm";
    channels_ = in.extent();
    groups_ = in.number(1, channels_);
    if (channels_ % groups_) invalid("%lld groups do not divide %lld channels", (long long)groups_, (long long)channels_);
    positions_ = in.extent();
    epsilon_ = in.real();
    blocks_ = (channels_ + L - 1) / L;
    from_ = in.tensor(times(blocks_, positions_, L));
    scale_ = in.tensor(blocks_ * L);
    shift_ = in.tensor(blocks_ * L);
    // Groups that share a block belong to one unit.
    const int64_t size = channels_ / groups_, whole = size / std::gcd(size, int64_t(L));
    units_ = channels_ % (whole * L) ? 1 : channels_ / (whole * L);
  }
  int64_t units() const override { return units_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit)
      blocks(from_.at(frame, image), scale_.at(frame, image), shift_.at(frame, image), unit * blocks_ / units_,
             (unit + 1) * blocks_ / units_);
  }

 private:
  void blocks(const float* x, float* scale, float* shift, int64_t begin, int64_t end) const {
    const int64_t size = channels_ / groups_, groups_begin = begin * L / size;
    const int64_t groups_end = std::min(end * L, channels_) / size;
    const float count = float(size) * float(positions_);
    for (int64_t b = begin; b < end; ++b) store(shift + b * L, sums(x + b * positions_ * L, V{}, false));
    for (int64_t g = groups_begin; g < groups_end; ++g) {
      const float mean = std::accumulate(shift + g * size, shift + (g + 1) * size, 0.0f) / count;
      std::fill(scale + g * size, scale + (g + 1) * size, mean);
    }
    if (end * L > channels_) std::fill(scale + channels_, scale + end * L, 0.0f);
    for (int64_t b = begin; b < end; ++b) store(shift + b * L, sums(x + b * positions_ * L, load(scale + b * L), true));
    for (int64_t g = groups_begin; g < groups_end; ++g) {
      const float variance = std::accumulate(shift + g * size, shift + (g + 1) * size, 0.0f) / count;
      const float factor = 1.0f / std::sqrt(variance + epsilon_), mean = scale[g * size];
      std::fill(scale + g * size, scale + (g + 1) * size, factor);
      std::fill(shift + g * size, shift + (g + 1) * size, -mean * factor);
    }
    if (end * L > channels_) std::fill(shift + channels_, shift + end * L, 0.0f);
  }
  // Of a block over all positions: of its distances from `mean`, or of their squares.
  V sums(const float* x, V mean, bool squares) const {
    V sum[4] = {};
    const auto add = [&](int64_t p, int u) {
      const V t = load(x + p * L) - mean;
      sum[u] += squares ? t * t : t;
    };
    int64_t p = 0;
    for (; p + 4 <= positions_; p += 4)
      for (int u = 0; u < 4; ++u) add(p + u, u);
    for (; p < positions_; ++p) add(p, 0);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  int64_t channels_, groups_, positions_, blocks_, units_;
  float epsilon_;
  Tensor from_, scale_, shift_;
};
