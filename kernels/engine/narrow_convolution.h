// Convolutions of narrow maps, by tiles or vectors.
#pragma once
#include "dots.h"
#include "narrow_ending.h"

// Numbers: whether tiles may be used, input (a narrow map), rows and columns of its border to leave out, kernel, stride,
// how many phases the input has been split into (see Phases; 0: it has not), dilation, output height and width, groups, input channels and output blocks of each, parts along rows and panels,
// weights (see dots.h), scales (for bytes), bias; gate, wide and narrow residual, each or -1; bounds; pools; wide and
// narrow output, each or -1; chain.
class NarrowConvolution : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new NarrowConvolution(in)); }
  explicit NarrowConvolution(Reader& in) {
    const bool tiles = in.number(0, 1) != 0;
    from_.read(in);
    if (!multiplies(from_.kind)) invalid(from_.kind == BYTES ? "the processor has no VNNI" : "the processor has no AVX512_BF16");
    const int64_t top = in.number(0, from_.border), left = in.number(0, from_.border);
    const int64_t kernel_h = in.number(1, 64), kernel_w = in.number(1, 64);
    stride_ = in.number(1, 64);
    const int64_t phases = in.number(0, stride_ * stride_), between = phases ? stride_ : 1;
    const int64_t dilation = in.number(1, phases ? 1 : 64);
    oh_ = in.extent();
    ow_ = in.extent();
    if (phases) stride_ = 1;
    const int64_t phase_height = from_.full_height() / std::max<int64_t>(1, phases);
    if (top + (oh_ - 1) * stride_ + (kernel_h - 1) / between * dilation >= phase_height ||
        left + (ow_ - 1) * stride_ + (kernel_w - 1) / between * dilation >= from_.full_width() ||
        (phases && std::min(kernel_h - 1, between - 1) * between + std::min(kernel_w - 1, between - 1) >= phases))
      invalid("a kernel reaches beyond its map");
    groups_ = in.extent();
    inputs_ = in.extent();
    if (times(groups_, inputs_) > from_.pitch || inputs_ * from_.size % 4) invalid("%lld channels of a group", (long long)inputs_);
    out_blocks_ = in.extent();
    row_parts_ = in.number(1, oh_);
    per_group_ = (out_blocks_ + 1) / 2;
    panels_ = times(groups_, per_group_);
    panel_parts_ = in.number(1, panels_);

    // A kernel's row is one run where its channels lie side by side.
    const bool whole = groups_ == 1 && dilation == 1 && inputs_ == from_.pitch && !phases;
    const int64_t origin = (top * from_.full_width() + left) * from_.step();
    for (int64_t r = 0; r < kernel_h; ++r)
      for (int64_t q = 0; q < (whole ? 1 : kernel_w); ++q)
        offsets_.push_back(origin + ((r % between * between + q % between) * phase_height * from_.full_width() +
                                     (r / between * from_.full_width() + q / between) * dilation) * from_.step());
    runs_.offsets = offsets_.data();
    runs_.count = int64_t(offsets_.size());
    runs_.words = inputs_ * from_.size / 4 * (whole ? kernel_w : 1);
    runs_.pieces = (runs_.words + 15) / 16;
    runs_.piece = std::min<int64_t>(16, runs_.words);
    runs_.step = stride_ * from_.step();
    panel_block_ = times(runs_.count, runs_.pieces, runs_.piece, L);
    const int64_t channels = times(groups_, out_blocks_, L);
    const float* weights = in.weights(times(panel_block_, groups_, out_blocks_));
    weights_ = reinterpret_cast<const uint8_t*>(weights);
    ending_.read(in, from_.kind, channels, oh_, ow_, row_parts_);
    flat_ = stride_ == 1 && from_.full_width() == ow_ && ending_.flat();
    large_ = from_.bytes() >= LARGE;
#ifdef HAS_TILES
    tiles_ = tiles && has_tiles(from_.kind);
#else
    (void)tiles;
#endif
    kind = from_.kind == BYTES ? (tiles_ ? "int8 tiles" : "int8") : (tiles_ ? "bfloat16 tiles" : "bfloat16");
    macs = double(groups_ * inputs_) * double(out_blocks_ * L) * double(kernel_h * kernel_w) * double(oh_ * ow_);
  }
  int64_t units() const override { return row_parts_ * panel_parts_; }
  bool by_weights() const override { return row_parts_ == 1 && panel_parts_ > 1; }
  int64_t scratch() const override { return 4 * panels_ * L; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t part = unit / panel_parts_, share = unit % panel_parts_;
      part_of(frame, image, part, share * panels_ / panel_parts_, (share + 1) * panels_ / panel_parts_);
    }
  }

 private:
  static constexpr int64_t FEW = 1 << 17;    // bytes of weights that may be read anew for each chunk of positions
  static constexpr int64_t CACHE = 1 << 19;  // of the input that stay in the second cache while all panels pass over them
  static constexpr int64_t LARGE = 1 << 19;  // of an input, most of which is no longer in the second cache

  void part_of(const Frame& frame, int64_t image, int64_t part, int64_t panel, int64_t last) const {
    V* sums = reinterpret_cast<V*>(frame.scratch);
    V* maxima = sums + 2 * (last - panel);
    for (int64_t b = 0; b < 2 * (last - panel); ++b) {
      sums[b] = V{};
      maxima[b] = all(-INFINITY);
    }
    const int64_t begin = part * oh_ / row_parts_, end = (part + 1) * oh_ / row_parts_;
    const int64_t fits = std::max<int64_t>(1, CACHE / (from_.full_width() * from_.step() * stride_));
    const int64_t pieces = (end - begin + fits - 1) / fits;
    for (int64_t piece = 0; piece < pieces; ++piece)
      rows(frame, image, begin + piece * (end - begin) / pieces, begin + (piece + 1) * (end - begin) / pieces, panel, last, sums, maxima);
    for (int64_t o = panel; o < last; ++o)
      for (int64_t b = 0; b < wide(o); ++b)
        ending_.pools.put(frame, image, part, block_of(o) + b, sums[2 * (o - panel) + b], maxima[2 * (o - panel) + b]);
  }
  int64_t block_of(int64_t o) const { return o / per_group_ * out_blocks_ + 2 * (o % per_group_); }
  int wide(int64_t o) const { return 2 * (o % per_group_) + 1 < out_blocks_ ? 2 : 1; }

  // Without a stride, positions of all rows lie at one distance, if those in the border between two rows are computed too,
  // and left out afterwards. `line` is as many positions as that.
  void rows(const Frame& frame, int64_t image, int64_t begin, int64_t end, int64_t panel, int64_t last, V* sums, V* maxima) const {
    const bool joined = stride_ == 1;
    const int64_t count = joined ? (end - begin - 1) * from_.full_width() + ow_ : ow_;
    const int64_t lines = joined ? 1 : end - begin;
#ifdef HAS_TILES
    if (tiles_) {
      const Tiles16 set(std::min(ROWS, count), runs_.piece);
      panels<true>(frame, image, begin, lines, count, panel, last, sums, maxima);
      return;
    }
#endif
    panels<false>(frame, image, begin, lines, count, panel, last, sums, maxima);
  }

  // Few weights pass over each chunk of positions, whose results then lie side by side. Many stay in the first cache, a panel
  // at a time, while positions pass over them.
  template <bool TILES>
  void panels(const Frame& frame, int64_t image, int64_t begin, int64_t lines, int64_t count, int64_t panel, int64_t last, V* sums,
              V* maxima) const {
    const bool few = 2 * panel_block_ * 4 * (last - panel) <= FEW;
    const int64_t step = few ? CHUNK : count;
    const auto one = [&](int64_t y, int64_t p, int64_t o) {
      line<TILES>(frame, image, y, p, std::min(count, p + step), count, o, o == panel, sums + 2 * (o - panel), maxima + 2 * (o - panel));
    };
    if (few) {
      for (int64_t y = begin; y < begin + lines; ++y)
        for (int64_t p = 0; p < count; p += step)
          for (int64_t o = panel; o < last; ++o) one(y, p, o);
    } else {
      for (int64_t o = panel; o < last; ++o)
        for (int64_t y = begin; y < begin + lines; ++y) one(y, 0, o);
    }
  }

  // Positions `p` to `last` of the `count` of a line; `fresh` inputs have not been read by another panel before.
  template <bool TILES>
  void line(const Frame& frame, int64_t image, int64_t y, int64_t p, int64_t last, int64_t count, int64_t o, bool fresh,
            V* total, V* most) const {
    alignas(64) int32_t sums[CHUNK * 2 * L];
    Runs runs = runs_;
    runs.weights = weights_ + block_of(o) * panel_block_ * 4;
    const uint8_t* x = from_.at(frame, image) + y * stride_ * from_.full_width() * from_.step() + o / per_group_ * inputs_ * from_.size;
    int64_t row = flat_ ? y : y + p / from_.full_width(), column = flat_ ? p : p % from_.full_width();
    while (p < last) {
      const int64_t next = std::min(count, p + CHUNK);
      // Tiles are always full: the last begins earlier, and what it gives once more is left out.
      int64_t first = p;
      ending_.expect(frame, image, block_of(o), row, column, next - p);
      if (fresh && large_) ahead(x + next * runs.step, std::min(count - next, CHUNK));
      if (TILES) {
        first = next - p < ROWS ? std::max<int64_t>(0, next - ROWS) : p;
        tiles(next - first, x + first * runs.step, runs, wide(o), sums);
      } else {
        some(next - first, x + first * runs.step, runs, wide(o), sums);
      }
      for (int64_t at = p; at < next;) {
        const int64_t inside = flat_ ? next - at : std::min(next - at, ow_ - column);
        if (inside > 0) {
          ending_.put(frame, image, block_of(o), wide(o), row, column, inside, sums + (at - first) * 2 * L, total, most);
          at += inside;
          column += inside;
        }
        if (column >= ow_ && !flat_) {  // on to the next row, over the border
          const int64_t over = std::min(next - at, from_.full_width() - column);
          at += over;
          column += over;
          if (column >= from_.full_width()) {
            column = 0;
            ++row;
          }
        }
      }
      p = next;
    }
  }
  // Asks for the inputs of positions that come next. Those of the kernel's last row are the new ones.
  void ahead(const uint8_t* x, int64_t count) const {
    for (int64_t at = runs_.offsets[runs_.count - 1], end = at + count * runs_.step; at < end; at += 64) __builtin_prefetch(x + at, 0, 2);
  }
  void some(int64_t count, const uint8_t* x, const Runs& runs, int blocks, int32_t* sums) const {
    if (from_.kind == BYTES) blocks == 2 ? dots<BYTES, 2>(count, x, runs, sums) : dots<BYTES, 1>(count, x, runs, sums);
#ifdef __AVX512F__
    else blocks == 2 ? dots<BFLOAT16, 2>(count, x, runs, sums) : dots<BFLOAT16, 1>(count, x, runs, sums);
#endif
  }
  void tiles(int64_t count, const uint8_t* x, const Runs& runs, int blocks, int32_t* sums) const {
#ifdef HAS_TILES
    const int64_t second = count - ROWS;
    if (from_.kind == BYTES) {
      if (second > 0) blocks == 2 ? tile_bytes<2, 2>(x, second, runs, sums) : tile_bytes<2, 1>(x, second, runs, sums);
      else blocks == 2 ? tile_bytes<1, 2>(x, 0, runs, sums) : tile_bytes<1, 1>(x, 0, runs, sums);
    } else {
      if (second > 0) blocks == 2 ? tile_bfloat16<2, 2>(x, second, runs, sums) : tile_bfloat16<2, 1>(x, second, runs, sums);
      else blocks == 2 ? tile_bfloat16<1, 2>(x, 0, runs, sums) : tile_bfloat16<1, 1>(x, 0, runs, sums);
    }
#else
    some(count, x, runs, blocks, sums);
#endif
  }

  Narrow from_;
  int64_t stride_, oh_, ow_, groups_, inputs_, out_blocks_, row_parts_, panel_parts_, per_group_, panels_, panel_block_;
  bool tiles_ = false, large_;
  bool flat_;  // no map has a border: rows follow each other as one
  const uint8_t* weights_;
  Runs runs_;
  Ending ending_;
  std::vector<int64_t> offsets_;
};
