// From maps to vectors and planes: the last step of pooling, and reductions over all channels of a position.
#pragma once
#include "plan.h"

// Numbers: channels, rows, whether they are maxima, factor (float bits), input (rows, channels), output (channels): the
// partial sums, or maxima, that the parts of an operator left, joined and scaled.
class Join : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Join(in)); }
  explicit Join(Reader& in) {
    kind = "join";
    channels_ = in.extent();
    if (channels_ % L) invalid("%lld channels are no whole blocks", (long long)channels_);
    rows_ = in.extent();
    maxima_ = in.number(0, 1) != 0;
    factor_ = in.real();
    from_ = in.tensor(times(rows_, channels_));
    to_ = in.tensor(channels_);
  }
  void run(const Frame& frame, int64_t image, int64_t, int64_t) const override {
    const float* x = from_.at(frame, image);
    float* y = to_.at(frame, image);
    for (int64_t c = 0; c < channels_; c += L) {
      V v = load(x + c);
      for (int64_t r = 1; r < rows_; ++r) {
        const V t = load(x + r * channels_ + c);
        v = maxima_ ? maxv(v, t) : v + t;
      }
      store(y + c, v * factor_);
    }
  }

 private:
  int64_t channels_, rows_;
  bool maxima_;
  float factor_;
  Tensor from_, to_;
};

// Numbers: real channels, positions, parts, input, output: the maximum and the mean over the channels of each position, as
// two plain planes.
class OverChannels : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new OverChannels(in)); }
  explicit OverChannels(Reader& in) {
    kind = "over channels";
    channels_ = in.extent();
    positions_ = in.extent();
    parts_ = in.number(1, positions_);
    from_ = in.tensor(times((channels_ + L - 1) / L, positions_, L));
    to_ = in.tensor(times(2, positions_));
  }
  int64_t units() const override { return parts_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const float* x = from_.at(frame, image);
    float* y = to_.at(frame, image);
    const int64_t whole = channels_ / L, rest = channels_ % L;
    for (int64_t p = first * positions_ / parts_; p < last * positions_ / parts_; ++p) {
      V sums = {}, most = all(-INFINITY);
      for (int64_t b = 0; b < whole; ++b) {
        const V t = load(x + (b * positions_ + p) * L);
        sums += t;
        most = maxv(most, t);
      }
      float sum = total(sums), maximum = -INFINITY;
      if (whole) for (int l = 0; l < L; ++l) maximum = maximum > most[l] ? maximum : most[l];
      for (int64_t l = 0; l < rest; ++l) {
        const float t = x[(whole * positions_ + p) * L + l];
        sum += t;
        maximum = maximum > t ? maximum : t;
      }
      y[p] = maximum;
      y[positions_ + p] = sum / float(channels_);
    }
  }

 private:
  int64_t channels_, positions_, parts_;
  Tensor from_, to_;
};

// Numbers: real channels, positions, input map, weights (plain, positions), output (padded channels): each channel's sum
// over space of the map times a weight for each position, GC's context.
class Weighted : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Weighted(in)); }
  explicit Weighted(Reader& in) {
    kind = "weighted";
    blocks_ = (in.extent() + L - 1) / L;
    positions_ = in.extent();
    from_ = in.tensor(times(blocks_, positions_, L));
    by_ = in.tensor(positions_);
    to_ = in.tensor(blocks_ * L);
  }
  int64_t units() const override { return blocks_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const float* by = by_.at(frame, image);
    for (int64_t block = first; block < last; ++block) {
      const float* x = from_.at(frame, image) + block * positions_ * L;
      V sums[4] = {};
      int64_t p = 0;
      for (; p + 4 <= positions_; p += 4)
        for (int u = 0; u < 4; ++u) sums[u] += load(x + (p + u) * L) * all(by[p + u]);
      for (; p < positions_; ++p) sums[0] += load(x + p * L) * all(by[p]);
      store(to_.at(frame, image) + block * L, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
  }

 private:
  int64_t blocks_, positions_;
  Tensor from_, by_, to_;
};

// Numbers: channels, groups, positions, parts, input map, vector (channels), output planes (groups, positions): the scalar
// product of each position's channels with the vector's, group by group, as SGE compares positions with their mean.
class GroupDot : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new GroupDot(in)); }
  explicit GroupDot(Reader& in) {
    kind = "group dot";
    channels_ = in.extent();
    groups_ = in.number(1, channels_);
    if (channels_ % groups_) invalid("%lld groups do not divide %lld channels", (long long)groups_, (long long)channels_);
    positions_ = in.extent();
    parts_ = in.number(1, positions_);
    blocks_ = (channels_ + L - 1) / L;
    from_ = in.tensor(times(blocks_, positions_, L));
    by_ = in.tensor(blocks_ * L);
    to_ = in.tensor(times(groups_, positions_));
  }
  int64_t units() const override { return parts_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    const float *x = from_.at(frame, image), *by = by_.at(frame, image);
    float* y = to_.at(frame, image);
    const int64_t size = channels_ / groups_, begin = first * positions_ / parts_, end = last * positions_ / parts_;
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t p = begin; p < end; ++p) {
        float sum = 0;
        for (int64_t c = g * size; c < (g + 1) * size;) {
          const int64_t block = c / L, lane = c % L;
          const float* at = x + (block * positions_ + p) * L;
          if (lane == 0 && c + L <= (g + 1) * size) {
            sum += total(load(at) * load(by + c));
            c += L;
          } else {
            sum += at[lane] * by[c];
            ++c;
          }
        }
        y[g * positions_ + p] = sum;
      }
  }

 private:
  int64_t channels_, groups_, positions_, parts_, blocks_;
  Tensor from_, by_, to_;
};
