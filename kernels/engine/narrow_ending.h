// What follows the sums of convolutions of narrow maps: steps in float32, after which the result is stored, wide, narrow or both.
#pragma once
#include "elementwise.h"

constexpr int64_t ROWS = 16;         // positions of a tile
constexpr int64_t CHUNK = 2 * ROWS;  // positions whose sums are computed together: (CHUNK, 2, L) of 4 bytes each

// What is done with the sums of one or two blocks, chosen at compile time, so that unused steps cost nothing.
struct Finish {
  const float *scale, *bias, *gate;  // of the first block; scale and gate may be null
  float low, high;                   // the activation's bounds
  const float* residual;             // wide, or null
  const uint8_t* added;              // narrow, or null
  int64_t added_step;
  V added_scale, added_zero;
  float* wide;                       // where the result goes as floats, or null
  int64_t plane;                     // floats from a block of a wide map to the next
  uint8_t* narrow;                   // and as narrow numbers, or null
  int64_t narrow_step;
  V narrow_inverse, narrow_zero;
  const uint8_t* mask;               // a map in bfloat16, or null
  int64_t mask_step;
  float mask_more;
  const float* norm;                 // factors and summands of the next block's norm, (block, 2, L), or null
  float norm_low, norm_high;         // bounds of its activation
  uint8_t* normed;                   // where its result goes, in bfloat16
  int64_t normed_step;
};

// `count` positions of blocks that lie next to each other, with sums of `KIND`. `ADDS` narrow numbers of that kind and
// `STORES` such ones; `WIDE` floats are added or stored; `POOLS` adds to sums and maxima. Both blocks of a position are
// stored at once, as they share a line of the cache.
//
// `MASKS`: numbers become (sigmoid + a number) times the mask's, the end of ATAC and of the Residual Attention Network's masks.
// `NORMS`: what goes to the next block is also stored after that block's norm and activation, in bfloat16.
//
// All that is one product and one sum is made one: with `WIDE` and `POOLS` left out, bytes are computed in the scale in which
// they are stored.
template <int KIND, int BLOCKS, bool ADDS, bool STORES, bool WIDE, bool POOLS, bool NORMS = false, bool MASKS = false>
static void finish(const int32_t* sums, int64_t count, const Finish& f, V* total, V* most) {
  constexpr bool SCALED = KIND == BYTES && STORES && !WIDE && !POOLS;
  V scale[BLOCKS], shift[BLOCKS], sum[BLOCKS], maximum[BLOCKS], low = all(f.low), high = all(f.high), added = f.added_scale;
  for (int b = 0; b < BLOCKS; ++b) {
    sum[b] = V{};
    maximum[b] = all(-INFINITY);
    scale[b] = f.gate ? load(f.gate + b * L) : all(1.0f);
    shift[b] = load(f.bias + b * L) * scale[b];
    if (KIND == BYTES) scale[b] *= load(f.scale + b * L);
    if (KIND == BYTES && ADDS) shift[b] -= f.added_zero * f.added_scale;
    if (SCALED) {
      scale[b] *= f.narrow_inverse;
      shift[b] = shift[b] * f.narrow_inverse + f.narrow_zero;
    }
  }
  if (SCALED) {
    added *= f.narrow_inverse;
    low = low * f.narrow_inverse + f.narrow_zero;
    high = high * f.narrow_inverse + f.narrow_zero;
  }
  for (int64_t u = 0; u < count; ++u) {
    V v[BLOCKS];
    for (int b = 0; b < BLOCKS; ++b) {
      const int32_t* s = sums + (2 * u + b) * L;
      v[b] = KIND == BYTES ? __builtin_convertvector(*reinterpret_cast<const VI*>(s), V) : load(reinterpret_cast<const float*>(s));
      v[b] = v[b] * scale[b] + shift[b];
      if (WIDE && f.residual) v[b] += load(f.residual + b * f.plane + u * L);
      if (ADDS) {
        const uint8_t* p = f.added + u * f.added_step;
        if (KIND == BYTES) v[b] += __builtin_convertvector(widened(p + b * L), V) * added;
        else v[b] += from_bfloat16(p + b * L * 2);
      }
      v[b] = between(v[b], low, high);
      if (MASKS) v[b] = (quick_sigmoid(v[b]) + f.mask_more) * from_bfloat16(f.mask + u * f.mask_step + b * L * 2);
      if (POOLS) {
        sum[b] += v[b];
        maximum[b] = maxv(maximum[b], v[b]);
      }
      if (WIDE && f.wide) store(f.wide + b * f.plane + u * L, v[b]);
    }
    if (STORES) {
      uint8_t* p = f.narrow + u * f.narrow_step;
      if (KIND == BYTES) {
        for (int b = 0; b < BLOCKS; ++b) store_bytes(p + b * L, SCALED ? v[b] : v[b] * f.narrow_inverse + f.narrow_zero);
      } else if (BLOCKS == 2) {
        pair_to_bfloat16(p, v[0], v[BLOCKS - 1]);
      } else {
        to_bfloat16_by_instruction(p, v[0]);
      }
    }
    if (NORMS) {
      uint8_t* p = f.normed + u * f.normed_step;
      for (int b = 0; b < BLOCKS; ++b) {
        const float* n = f.norm + 2 * b * L;
        v[b] = between(v[b] * load(n) + load(n + L), all(f.norm_low), all(f.norm_high));
      }
      if (BLOCKS == 2) pair_to_bfloat16(p, v[0], v[BLOCKS - 1]);
      else to_bfloat16_by_instruction(p, v[0]);
    }
  }
  for (int b = 0; POOLS && b < BLOCKS; ++b) {
    total[b] += sum[b];
    most[b] = maxv(most[b], maximum[b]);
  }
}

// What becomes of the sums of an operator, and where it goes.
class Ending {
 public:
  Pools pools;

  // Numbers: scales (for bytes), bias; gate, wide and narrow residual, each or -1; bounds; pools; wide and narrow output,
  // each or -1; a mask and the number that is added to the sigmoid, or -1; the next block's norm (factors and summands, bounds, a map in bfloat16) or -1; chain, which follows what is
  // stored in narrow numbers and comes before what is stored in wide ones.
  void read(Reader& in, Kind kind, int64_t channels, int64_t height, int64_t width, int64_t parts) {
    kind_ = kind;
    width_ = width;
    positions_ = times(height, width);
    if (kind == BYTES) scale_ = in.weights(channels);
    bias_ = in.weights(channels);
    if ((gated_ = in.present())) gate_ = in.tensor(channels);
    if ((adds_wide_ = in.present())) residual_ = in.tensor(times(channels, positions_));
    if ((adds_ = in.present())) added_.read(in, channels, positions_);
    low_ = in.real();
    high_ = in.real();
    pools.read(in, parts, channels);
    if ((stores_wide_ = in.present())) to_ = in.tensor(times(channels, positions_));
    if ((stores_ = in.present())) narrow_.read(in, channels, positions_);
    if ((adds_ && (added_.kind != kind || added_.width != width)) || (stores_ && (narrow_.kind != kind || narrow_.width != width)))
      invalid("narrow maps of a convolution differ");
    if ((masks_ = in.present())) {
      mask_.read(in, channels, positions_);
      mask_more_ = in.real();
    }
    if (in.present()) {
      norm_ = in.weights(2 * channels);
      norm_low_ = in.real();
      norm_high_ = in.real();
      normed_.read(in, channels, positions_);
      if (normed_.kind != BFLOAT16 || normed_.width != width) invalid("a norm is not in bfloat16");
    }
    if (masks_ && (mask_.kind != BFLOAT16 || mask_.width != width)) invalid("a mask is not in bfloat16");
    chain_ = Chain(in, channels, positions_);
    const bool more = kind != BFLOAT16 || stores_wide_ || adds_wide_ || pools.sums || pools.maxima || !chain_.empty();
    if ((norm_ || masks_) && more) invalid("a mask or norm goes along with what it does not know");
  }
  // Whether rows follow each other in all maps without a border between them.
  bool flat() const {
    return (!adds_ || !added_.border) && (!stores_ || !narrow_.border) && (!masks_ || !mask_.border) &&
           (!norm_ || !normed_.border);
  }

  // Asks for the memory of results, so that it is on its way while their sums are computed.
  void expect(const Frame& frame, int64_t image, int64_t block, int64_t y, int64_t x, int64_t count) const {
    const auto ask = [&](const Narrow& map) {
      const uint8_t* at = map.at(frame, image) + map.place(y, x, block * L);
      for (int64_t u = 0; u < count; ++u) __builtin_prefetch(at + u * map.step(), 1);
    };
    if (stores_) ask(narrow_);
    if (norm_) ask(normed_);
  }

  // `count` positions of a row of one or two blocks, from their sums (count, 2, L) to their places.
  void put(const Frame& frame, int64_t image, int64_t block, int blocks, int64_t y, int64_t x, int64_t count, const int32_t* sums,
           V* total, V* most) const {
    const bool sums_up = pools.sums || pools.maxima;
    if (chain_.empty()) {
      const Finish f = at(frame, image, block, y, x);
      blocks == 2 ? by_kind<2>(sums, count, f, sums_up ? total : nullptr, most) : by_kind<1>(sums, count, f, sums_up ? total : nullptr, most);
      return;
    }
    // The chain holds one block at a time. Both blocks of a few positions take turns, as they share lines of the cache.
    V values[FEW];
    for (int64_t p = 0; p < count; p += FEW)
      for (int b = 0; b < blocks; ++b) {
        const int64_t n = std::min(FEW, count - p);
        Finish f = at(frame, image, block + b, y, x + p);
        float* to = f.wide;
        f.wide = reinterpret_cast<float*>(values);
        by_kind<1>(sums + (2 * p + b) * L, n, f, nullptr, nullptr);
        chain_.run(frame, image, block + b, y * width_ + x + p, n, f.wide, to ? to : f.wide, pools.sums ? total + b : nullptr,
                   pools.maxima ? most + b : nullptr);
      }
  }

 private:
  static constexpr int64_t FEW = 16;  // positions

  Finish at(const Frame& frame, int64_t image, int64_t block, int64_t y, int64_t x) const {
    const int64_t channel = block * L, place = (block * positions_ + y * width_ + x) * L;
    Finish f = {};
    f.scale = scale_ ? scale_ + channel : nullptr;
    f.bias = bias_ + channel;
    f.gate = gated_ ? gate_.at(frame, image) + channel : nullptr;
    f.low = low_;
    f.high = high_;
    f.plane = positions_ * L;
    f.residual = adds_wide_ ? residual_.at(frame, image) + place : nullptr;
    if (adds_) {
      f.added = added_.at(frame, image) + added_.place(y, x, channel);
      f.added_step = added_.step();
      f.added_scale = all(added_.scale);
      f.added_zero = all(added_.zero);
    }
    f.wide = stores_wide_ ? to_.at(frame, image) + place : nullptr;
    if (stores_) {
      f.narrow = narrow_.at(frame, image) + narrow_.place(y, x, channel);
      f.narrow_step = narrow_.step();
      f.narrow_inverse = all(narrow_.inverse);
      f.narrow_zero = all(narrow_.zero);
    }
    if (masks_) {
      f.mask = mask_.at(frame, image) + mask_.place(y, x, channel);
      f.mask_step = mask_.step();
      f.mask_more = mask_more_;
    }
    if (norm_) {
      f.norm = norm_ + 2 * channel;
      f.norm_low = norm_low_;
      f.norm_high = norm_high_;
      f.normed = normed_.at(frame, image) + normed_.place(y, x, channel);
      f.normed_step = normed_.step();
    }
    return f;
  }
  template <int BLOCKS>
  void by_kind(const int32_t* sums, int64_t count, const Finish& f, V* total, V* most) const {
    if (kind_ == BYTES) by_form<BYTES, BLOCKS>(sums, count, f, total, most);
    else by_form<BFLOAT16, BLOCKS>(sums, count, f, total, most);
  }
  template <int KIND, int BLOCKS, bool... KNOWN>
  static void by_form(const int32_t* sums, int64_t count, const Finish& f, V* total, V* most) {
    if constexpr (KIND == BFLOAT16 && sizeof...(KNOWN) == 2) {
      if (f.norm && f.mask) return finish<KIND, BLOCKS, KNOWN..., false, false, true, true>(sums, count, f, total, most);
      if (f.norm) return finish<KIND, BLOCKS, KNOWN..., false, false, true>(sums, count, f, total, most);
      if (f.mask) return finish<KIND, BLOCKS, KNOWN..., false, false, false, true>(sums, count, f, total, most);
    }
    if constexpr (sizeof...(KNOWN) == 4) {
      finish<KIND, BLOCKS, KNOWN...>(sums, count, f, total, most);
    } else {
      const bool next[] = {f.added != nullptr, f.narrow != nullptr, f.wide || f.residual, total != nullptr};
      if (next[sizeof...(KNOWN)]) by_form<KIND, BLOCKS, KNOWN..., true>(sums, count, f, total, most);
      else by_form<KIND, BLOCKS, KNOWN..., false>(sums, count, f, total, most);
    }
  }

  Kind kind_ = BFLOAT16;
  int64_t width_ = 0, positions_ = 0;
  const float *scale_ = nullptr, *bias_ = nullptr;
  bool gated_ = false, adds_wide_ = false, adds_ = false, stores_wide_ = false, stores_ = false;
  Tensor gate_, residual_, to_;
  Narrow added_, narrow_, mask_, normed_;
  bool masks_ = false;
  float mask_more_ = 0;
  float low_ = 0, high_ = 0, norm_low_ = 0, norm_high_ = 0;
  const float* norm_ = nullptr;
  Chain chain_;
};
