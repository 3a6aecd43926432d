// Operators that take turns band by band, so that what one leaves in the cache the next one finds there.
#pragma once
#include <algorithm>

#include "plan.h"

// Numbers: how many operators; of each its kind, how many numbers it has, and these. All have as many units: unit k of
// each runs before unit k + 1 of any, so that it may read what units up to k of those before it have written. `ordered`
// says that it needs units before k too; units then may not be shared out among threads, and are one.
class Together : public Operator {
 public:
  Together(Reader& in, const Maker* makers, int64_t kinds) {
    kind = "together";
    ordered_ = in.number(0, 1) != 0;
    const int64_t count = in.number(2, 8);
    for (int64_t k = 0; k < count; ++k) {
      const Maker make = makers[in.number(0, kinds - 1)];
      Reader one = in.part();
      parts_.push_back(make(one));
      one.finish();
      if (parts_[size_t(k)]->units() != parts_[0]->units()) invalid("operators that take turns have different units");
      macs += parts_.back()->macs;
    }
  }
  int64_t units() const override { return ordered_ ? 1 : parts_[0]->units(); }
  int64_t scratch() const override {
    int64_t most = 0;
    for (const auto& part : parts_) most = std::max(most, part->scratch());
    return most;
  }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    if (ordered_) last = parts_[0]->units();
    for (int64_t unit = first; unit < last; ++unit)
      for (const auto& part : parts_) part->run(frame, image, unit, unit + 1);
  }

 private:
  bool ordered_;
  std::vector<std::unique_ptr<Operator>> parts_;
};
