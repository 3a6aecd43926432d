// Direct convolutions of maps in blocks of L channels, with the following steps done while the result is in registers.
//
// The kernel computes U positions of B blocks of output channels at once: U B registers of sums, to which each input
// channel adds its value, spread over the lanes, times a vector of weights for every block. Weights come packed in the
// order of use: (panel of B blocks, input block, kernel row, kernel column, input lane, B L outputs).
#pragma once
#include "../shared/products.h"
#include "elementwise.h"

// What a tile needs of the operator and the image.
struct After {
  const float* bias;       // of all output channels
  const float* gate;       // of all output channels, or null
  const float* residual;   // the same place of the residual map, or null
  const float* output;     // of the image: the residual lies as far from its map
  float low, high;         // the activation's bounds
  V* sums;                 // of the panel's blocks, or null
  V* maxima;

  // What becomes of a sum with its bias: `gate_` of its channels, `joined` its place in the residual map, where there are.
  inline V of(V v, V gate_, const float* joined) const {
    if (gate) v *= gate_;
    if (residual) v += load(joined);
    return between(v, all(low), all(high));
  }
};

template <int U, int B, int K>
static void tile(const float* x, const int64_t* offsets, int64_t steps, int64_t lanes, int64_t pitch, const float* w,
                 float* y, int64_t block_stride, int64_t channel, const After& after, const float* later, int64_t pace) {
  V sums[U][B];
  products<U, B, K>(x, offsets, steps, lanes, pitch, w, sums, later, pace);
  for (int b = 0; b < B; ++b) {
    const V bias = load(after.bias + channel + b * L);
    const V gate = after.gate ? load(after.gate + channel + b * L) : V{};
    float* to = y + b * block_stride;
    const float* joined = after.residual ? after.residual + (to - after.output) : to;
    V sum = {}, most = all(-INFINITY);
#pragma GCC unroll 24
    for (int u = 0; u < U; ++u) {
      const V v = after.of(sums[u][b] + bias, gate, joined + u * L);
      if (after.sums) sum += v;
      if (after.maxima) most = maxv(most, v);
      store(to + u * L, v);
    }
    if (after.sums) after.sums[b] += sum;
    if (after.maxima) after.maxima[b] = maxv(after.maxima[b], most);
  }
}

typedef void (*Tile)(const float*, const int64_t*, int64_t, int64_t, int64_t, const float*, float*, int64_t, int64_t,
                     const After&, const float*, int64_t);

template <int B, int K>
struct Tiles {
  Tile of[widest<B>() + 1];
  constexpr Tiles() : of() { fill<1>(); }
  template <int U>
  constexpr void fill() {
    of[U] = tile<U, B, K>;
    if constexpr (U < widest<B>()) fill<U + 1>();
  }
};

constexpr int64_t HEAVY = 1 << 14;  // weights of a panel, from which on the next one's are fetched ahead

// `count` neighbouring positions, in tiles of about the same width. It is one of `turns` times that these weights are used.
//
// The first tile of a panel finds its weights in memory, and the others in the cache: it would wait for memory, and they
// would leave it idle. So each tile fetches its part of the weights behind these, which are usually the next to be used.
template <int B, int K>
static inline void positions(int64_t count, const float* x, const int64_t* offsets, int64_t steps, int64_t lanes,
                             int64_t pitch, const float* w, float* y, int64_t block_stride, int64_t channel,
                             const After& after, int64_t turn = 0, int64_t turns = 1) {
  static constexpr Tiles<B, K> tiles;
  const int64_t size = steps * lanes * B * L, every = (count + widest<B>() - 1) / widest<B>(), passes = turns * every;
  const float* later = size < HEAVY ? nullptr : w + size + turn * every * size / passes;
  for (int64_t p = 0, left = every; left > 0; --left) {
    const int64_t u = (count - p + left - 1) / left;
    tiles.of[u](x + p * pitch, offsets, steps, lanes, pitch, w, y + p * L, block_stride, channel, after, later, B * L / passes + 1);
    if (later) later += size / passes;
    p += u;
  }
}

// What follows a convolution: bias, gate, residual and activation in registers, then a chain on what was just written.
struct Epilogue {
  const float* bias = nullptr;
  bool gated = false, adds = false;
  Tensor gate, residual;
  float low = -INFINITY, high = INFINITY;
  Pools pools;
  Chain chain;
  int64_t channels = 0, positions = 0;

  // Numbers: bias; gate or -1; residual or -1; activation (low, high for 2); pools; chain.
  void read(Reader& in, int64_t channels_, int64_t positions_, int64_t parts) {
    channels = channels_;
    positions = positions_;
    bias = in.weights(channels);
    if ((gated = in.present())) gate = in.tensor(channels);
    if ((adds = in.present())) residual = in.tensor(times(channels, positions));
    const int64_t act = in.number(0, 2);
    if (act == 1) low = 0;
    if (act == 2) { low = in.real(); high = in.real(); }
    pools.read(in, parts, channels);
    chain = Chain(in, channels, positions);
  }
  After after(const Frame& frame, int64_t image, const float* output, V* sums, V* maxima) const {
    const bool now = chain.empty();
    return {bias,
            gated ? gate.at(frame, image) : nullptr,
            adds ? residual.at(frame, image) : nullptr, output,
            low, high,
            now && pools.sums ? sums : nullptr,
            now && pools.maxima ? maxima : nullptr};
  }
  // The chain on positions that were just written, of `count` blocks.
  void then(const Frame& frame, int64_t image, float* output, int64_t block, int64_t count, int64_t first, int64_t length,
            V* sums, V* maxima) const {
    if (chain.empty()) return;
    for (int64_t b = 0; b < count; ++b) {
      float* at = output + ((block + b) * positions + first) * L;
      chain.run(frame, image, block + b, first, length, at, at, pools.sums ? sums + b : nullptr,
                pools.maxima ? maxima + b : nullptr);
    }
  }
};

// Numbers: input blocks and output blocks of a group, groups, kernel, stride, dilation, input height and width (with
// borders), parts along the rows, what these go by, parts along the panels, input, output, weights, epilogue. One kernel
// row or column more than fits is refused. `dense` maps (kernel 1, stride 1) run over all positions as one row.
//
// What the parts of a dense map go by is 0, or 1 followed by three numbers where another operator takes turns with it:
// rows of its map, how many rows of this one a row of it takes in, and how many more its last one reaches over. Part k
// then ends with the last row that part k of the other one reads.
class Convolution : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Convolution(in)); }
  explicit Convolution(Reader& in) {
    in_blocks_ = in.extent();
    out_blocks_ = in.extent();
    groups_ = in.extent();
    kernel_h_ = in.number(1, 64);
    kernel_w_ = in.number(1, 64);
    stride_ = in.number(1, 64);
    dilation_ = in.number(1, 64);
    ih_ = in.extent();
    iw_ = in.extent();
    const int64_t reach_h = (kernel_h_ - 1) * dilation_ + 1, reach_w = (kernel_w_ - 1) * dilation_ + 1;
    if (ih_ < reach_h || iw_ < reach_w) invalid("a kernel is larger than its map");
    oh_ = (ih_ - reach_h) / stride_ + 1;
    ow_ = (iw_ - reach_w) / stride_ + 1;
    dense_ = kernel_h_ == 1 && kernel_w_ == 1 && stride_ == 1;
    kind = dense_ ? "1x1" : "direct";
    row_parts_ = in.number(1, dense_ ? oh_ * ow_ : oh_);
    if ((paced_ = in.number(0, 1) != 0)) {
      if (!dense_) invalid("a convolution with a kernel goes by its own rows");
      pace_rows_ = in.number(row_parts_, int64_t(1) << 24);
      pace_stride_ = in.number(1, 32);
      pace_reach_ = in.number(-256, 256);
    }
    panels_ = times(groups_, (out_blocks_ + 1) / 2);
    panel_parts_ = in.number(1, panels_);
    const int64_t area = times(ih_, iw_), taps = kernel_h_ * kernel_w_;
    from_ = in.tensor(times(in_blocks_, groups_, area, L));
    to_ = in.tensor(times(out_blocks_, groups_, oh_ * ow_, L));
    weights_ = in.weights(times(in_blocks_ * L, taps, out_blocks_ * L, groups_));
    epilogue_.read(in, times(out_blocks_, groups_, L), oh_ * ow_, row_parts_);
    for (int64_t c = 0; c < in_blocks_; ++c)
      for (int64_t r = 0; r < kernel_h_; ++r)
        for (int64_t q = 0; q < kernel_w_; ++q) offsets_.push_back((c * area + (r * iw_ + q) * dilation_) * L);
    macs = double(in_blocks_ * L) * double(out_blocks_ * L) * double(groups_ * taps) * double(oh_ * ow_);
  }
  int64_t units() const override { return row_parts_ * panel_parts_; }
  bool by_weights() const override { return row_parts_ == 1 && panel_parts_ > 1; }
  int64_t scratch() const override { return 4 * panels_ * L; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t part = unit / panel_parts_, share = unit % panel_parts_;
      const int64_t panel = share * panels_ / panel_parts_, end = (share + 1) * panels_ / panel_parts_;
      if (dense_) rows(frame, image, part, position(part), position(part + 1), panel, end);
      else rows(frame, image, part, part * oh_ / row_parts_, (part + 1) * oh_ / row_parts_, panel, end);
    }
  }

 private:
  // Where a part of a dense map begins.
  int64_t position(int64_t part) const {
    if (!paced_ || part == 0 || part == row_parts_) return part * oh_ * ow_ / row_parts_;
    const int64_t row = (part * pace_rows_ / row_parts_ - 1) * pace_stride_ + pace_reach_;
    return std::min(std::max<int64_t>(row, 0), oh_) * ow_;
  }
  // Rows (or positions, of dense maps) `begin` to `end` of some panels.
  void rows(const Frame& frame, int64_t image, int64_t part, int64_t begin, int64_t end, int64_t panel, int64_t last) const {
    const float* x = from_.at(frame, image);
    float* y = to_.at(frame, image);
    const int64_t per_group = (out_blocks_ + 1) / 2, P = oh_ * ow_, area = ih_ * iw_;
    // Positions whose inputs stay in the second cache while all panels pass over them.
    const int64_t fits = dense_ ? std::max<int64_t>(2 * WIDEST, 65536 / (in_blocks_ * L)) : end - begin;
    const int64_t pieces = std::max<int64_t>(1, (end - begin + fits - 1) / fits);
    V* sums = reinterpret_cast<V*>(frame.scratch);
    V* maxima = sums + 2 * (last - panel);
    for (int64_t b = 0; b < 2 * (last - panel); ++b) {
      sums[b] = V{};
      maxima[b] = all(-INFINITY);
    }
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t a = begin + piece * (end - begin) / pieces, z = begin + (piece + 1) * (end - begin) / pieces;
      for (int64_t o = panel; o < last; ++o) {
        const int64_t group = o / per_group, pair = o % per_group;
        const int64_t block = group * out_blocks_ + 2 * pair;
        const int wide = 2 * pair + 1 < out_blocks_ ? 2 : 1;
        const float* w = weights_ + (group * out_blocks_ + 2 * pair) * L * in_blocks_ * L * kernel_h_ * kernel_w_;
        V *s = sums + 2 * (o - panel), *m = maxima + 2 * (o - panel);
        const After after = epilogue_.after(frame, image, y, s, m);
        const float* xg = x + group * in_blocks_ * area * L;
        const int64_t steps = int64_t(offsets_.size());
        if (dense_) {
          float* to = y + (block * P + a) * L;
          if (wide == 2) positions<2, L>(z - a, xg + a * L, offsets_.data(), steps, L, L, w, to, P * L, block * L, after);
          else positions<1, L>(z - a, xg + a * L, offsets_.data(), steps, L, L, w, to, P * L, block * L, after);
          epilogue_.then(frame, image, y, block, wide, a, z - a, s, m);
        } else {
          for (int64_t r = a; r < z; ++r) {
            const float* xr = xg + r * stride_ * iw_ * L;
            float* to = y + (block * P + r * ow_) * L;
            if (wide == 2) positions<2, L>(ow_, xr, offsets_.data(), steps, L, stride_ * L, w, to, P * L, block * L, after, r - a, z - a);
            else positions<1, L>(ow_, xr, offsets_.data(), steps, L, stride_ * L, w, to, P * L, block * L, after, r - a, z - a);
            epilogue_.then(frame, image, y, block, wide, r * ow_, ow_, s, m);
          }
        }
      }
    }
    for (int64_t o = panel; o < last; ++o) {
      const int64_t group = o / per_group, pair = o % per_group, block = group * out_blocks_ + 2 * pair;
      for (int64_t b = 0; b < (2 * pair + 1 < out_blocks_ ? 2 : 1); ++b)
        epilogue_.pools.put(frame, image, part, block + b, sums[2 * (o - panel) + b], maxima[2 * (o - panel) + b]);
    }
  }
  int64_t in_blocks_, out_blocks_, groups_, kernel_h_, kernel_w_, stride_, dilation_, ih_, iw_, oh_, ow_, row_parts_, panels_,
      panel_parts_;
  int64_t pace_rows_ = 0, pace_stride_ = 0, pace_reach_ = 0;
  bool dense_, paced_;
  Tensor from_, to_;
  const float* weights_;
  Epilogue epilogue_;
  std::vector<int64_t> offsets_;
};
