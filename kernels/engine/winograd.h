// 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(2,3) and F(4,3).
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. Tiles of m + 2 by m + 2 inputs
// give m by m outputs: inputs are transformed by B', multiplied with transformed weights for each of the (m + 2)^2
// elements, which are 1x1 convolutions, and brought back by A'. Of nine multiplications an output takes 4 with m = 2 and
// 2.25 with m = 4, whose transforms cost float32 some two decimal digits.
//
// With a dilation of d the map falls into d by d phases, each of every d-th row and column, and a kernel that reads a
// position of one phase reads no other. A tile is then one of a phase: its positions are d apart.
#pragma once
#include "../shared/winograd_transforms.h"
#include "convolution.h"

// Numbers: m (2 or 4), dilation, input and output blocks, height, width (the border is the dilation), tiles at a time, parts along the tiles and
// along the panels (each of which transforms the inputs for itself), input, output, weights (element, panel, input channel, outputs), epilogue.
class Winograd : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Winograd(in)); }
  explicit Winograd(Reader& in) {
    m_ = in.number(2, 4);
    if (m_ == 3) invalid("tiles of 3 outputs are not known");
    kind = m_ == 4 ? "winograd 4" : "winograd 2";
    dilation_ = in.number(1, 64);
    in_blocks_ = in.extent();
    out_blocks_ = in.extent();
    h_ = in.extent();
    w_ = in.extent();
    tiles_w_ = ((w_ + dilation_ - 1) / dilation_ + m_ - 1) / m_;
    tiles_h_ = ((h_ + dilation_ - 1) / dilation_ + m_ - 1) / m_;
    tiles_ = times(dilation_ * dilation_, tiles_h_, tiles_w_);
    at_once_ = in.number(1, tiles_);
    parts_ = in.number(1, tiles_);
    panels_ = (out_blocks_ + 1) / 2;
    panel_parts_ = in.number(1, panels_);
    const int64_t elements = (m_ + 2) * (m_ + 2);
    from_ = in.tensor(times(in_blocks_, h_, w_, L));
    to_ = in.tensor(times(out_blocks_, h_, w_, L));
    weights_ = in.weights(times(elements, in_blocks_ * L, out_blocks_ * L));
    epilogue_.read(in, out_blocks_ * L, times(h_, w_), parts_);
    for (int64_t c = 0; c < in_blocks_; ++c) offsets_.push_back(c * at_once_ * L);
    zero_.assign(size_t(out_blocks_ * L), 0.0f);
    macs = double(in_blocks_ * L) * double(out_blocks_ * L) * 9 * double(h_ * w_);
  }
  int64_t units() const override { return parts_ * panel_parts_; }
  int64_t scratch() const override {
    return times((m_ + 2) * (m_ + 2), at_once_, (in_blocks_ + out_blocks_) * L) + 2 * out_blocks_ * L;
  }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t part = unit / panel_parts_, share = unit % panel_parts_;
      const int64_t block = 2 * (share * panels_ / panel_parts_), end = std::min(out_blocks_, 2 * ((share + 1) * panels_ / panel_parts_));
      if (m_ == 4) some<4>(frame, image, part, block, end);
      else some<2>(frame, image, part, block, end);
    }
  }

 private:
  // The first row and column of what a tile computes.
  template <int M>
  void place(int64_t tile, int64_t& y, int64_t& x) const {
    const int64_t phase = tile / (tiles_h_ * tiles_w_), within = tile % (tiles_h_ * tiles_w_);
    y = phase / dilation_ + within / tiles_w_ * M * dilation_;
    x = phase % dilation_ + within % tiles_w_ * M * dilation_;
  }
  template <int M>
  void some(const Frame& frame, int64_t image, int64_t part, int64_t block, int64_t last) const {
    V* sums = reinterpret_cast<V*>(frame.scratch);
    V* maxima = sums + out_blocks_;
    for (int64_t b = block; b < last; ++b) { sums[b] = V{}; maxima[b] = all(-INFINITY); }
    const int64_t begin = part * tiles_ / parts_, end = (part + 1) * tiles_ / parts_;
    const int64_t pieces = (end - begin + at_once_ - 1) / at_once_;
    for (int64_t piece = 0; piece < pieces; ++piece)
      tiles<M>(frame, image, begin + piece * (end - begin) / pieces, begin + (piece + 1) * (end - begin) / pieces, block, last, sums, maxima);
    for (int64_t b = block; b < last; ++b) epilogue_.pools.put(frame, image, part, b, sums[b], maxima[b]);
  }
  template <int M>
  void tiles(const Frame& frame, int64_t image, int64_t first, int64_t last, int64_t begin, int64_t end, V* sums, V* maxima) const {
    constexpr int T = M + 2;
    const int64_t count = last - first;
    float* inputs = frame.scratch + 2 * out_blocks_ * L;
    float* outputs = inputs + T * T * at_once_ * in_blocks_ * L;
    for (int64_t q = 0; q < count; ++q) transform<M>(frame, image, first + q, q, inputs);
    const After nothing = {zero_.data(), nullptr, nullptr, nullptr, -INFINITY, INFINITY, nullptr, nullptr};
    for (int64_t e = 0; e < T * T; ++e)
      for (int64_t block = begin; block < end; block += 2) {
        const float* w = weights_ + (e * out_blocks_ + block) * L * in_blocks_ * L;
        const float* x = inputs + e * at_once_ * in_blocks_ * L;
        float* y = outputs + (e * out_blocks_ + block) * at_once_ * L;
        if (block + 1 < out_blocks_)
          positions<2, L>(count, x, offsets_.data(), in_blocks_, L, L, w, y, at_once_ * L, 0, nothing);
        else
          positions<1, L>(count, x, offsets_.data(), in_blocks_, L, L, w, y, at_once_ * L, 0, nothing);
      }
    for (int64_t q = 0; q < count; ++q) back<M>(frame, image, first + q, q, outputs, begin, end, sums, maxima);
  }
  template <int M>
  void transform(const Frame& frame, int64_t image, int64_t tile, int64_t q, float* inputs) const {
    constexpr int T = M + 2;
    const int64_t apart = dilation_;
    int64_t y0, x0;
    place<M>(tile, y0, x0);
    y0 -= apart;
    x0 -= apart;
    const bool inside = y0 >= 0 && x0 >= 0 && y0 + (T - 1) * apart < h_ && x0 + (T - 1) * apart < w_;
    const int64_t step = at_once_ * in_blocks_ * L;
    for (int64_t c = 0; c < in_blocks_; ++c) {
      const float* from = from_.at(frame, image) + c * h_ * w_ * L;
      V d[T][T], r[T][T];
      for (int a = 0; a < T; ++a)
        for (int b = 0; b < T; ++b) {
          const int64_t y = y0 + a * apart, x = x0 + b * apart;
          d[a][b] = inside || (y >= 0 && y < h_ && x >= 0 && x < w_) ? load(from + (y * w_ + x) * L) : V{};
        }
      for (int b = 0; b < T; ++b) {
        V in[T], out[T];
        for (int a = 0; a < T; ++a) in[a] = d[a][b];
        to_winograd<M>(in, out);
        for (int a = 0; a < T; ++a) r[a][b] = out[a];
      }
      float* to = inputs + (c * at_once_ + q) * L;
      for (int a = 0; a < T; ++a) {
        V out[T];
        to_winograd<M>(r[a], out);
        for (int b = 0; b < T; ++b) store(to + (a * T + b) * step, out[b]);
      }
    }
  }
  template <int M>
  void back(const Frame& frame, int64_t image, int64_t tile, int64_t q, const float* outputs, int64_t begin, int64_t end, V* sums,
            V* maxima) const {
    constexpr int T = M + 2;
    const int64_t apart = dilation_, P = h_ * w_;
    int64_t y0, x0;
    place<M>(tile, y0, x0);
    // Of phases that are smaller than the first, the last tiles may have nothing.
    const auto of = [&](int64_t size, int64_t from) { return int(std::min<int64_t>(M, from < size ? (size - 1 - from) / apart + 1 : 0)); };
    const int rows = of(h_, y0), columns = of(w_, x0);
    float* image_out = to_.at(frame, image);
    const int64_t step = at_once_ * out_blocks_ * L;
    for (int64_t c = begin; c < end; ++c) {
      const After after = epilogue_.after(frame, image, image_out, sums + c, maxima + c);
      const float* from = outputs + (c * at_once_ + q) * L;
      V r[M][T];
      for (int b = 0; b < T; ++b) {
        V in[T], out[M];
        for (int a = 0; a < T; ++a) in[a] = load(from + (a * T + b) * step);
        from_winograd<M>(in, out);
        for (int a = 0; a < M; ++a) r[a][b] = out[a];
      }
      const V bias = load(after.bias + c * L), gate = after.gate ? load(after.gate + c * L) : V{};
      V sum = {}, most = all(-INFINITY);
      for (int a = 0; a < rows; ++a) {
        V out[M];
        from_winograd<M>(r[a], out);
        const int64_t first = (y0 + a * apart) * w_ + x0, place = (c * P + first) * L;
        const float* joined = (after.residual ? after.residual : image_out) + place;
        for (int b = 0; b < columns; ++b) {
          const V v = after.of(out[b] + bias, gate, joined + b * apart * L);
          sum += v;
          most = maxv(most, v);
          store(image_out + place + b * apart * L, v);
        }
        if (apart == 1) epilogue_.then(frame, image, image_out, c, 1, first, columns, sums + c, maxima + c);
        else for (int b = 0; b < columns; ++b) epilogue_.then(frame, image, image_out, c, 1, first + b * apart, 1, sums + c, maxima + c);
      }
      if (after.sums) *after.sums += sum;
      if (after.maxima) *after.maxima = maxv(*after.maxima, most);
    }
  }
  int64_t m_, dilation_, in_blocks_, out_blocks_, h_, w_, tiles_w_, tiles_h_, tiles_, at_once_, parts_, panels_, panel_parts_;
  Tensor from_, to_;
  const float* weights_;
  Epilogue epilogue_;
  std::vector<int64_t> offsets_;
  std::vector<float> zero_;
};
