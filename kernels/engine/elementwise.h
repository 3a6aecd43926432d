// Chains of elementwise steps on maps in one pass: what follows a convolution, or joins the branches of a block.
//
// A chain holds sixteen positions of a block of channels at a time and takes them through all of its steps, so that a map
// is read and written only once, whatever the steps are.
#pragma once
#include "narrow.h"

enum Step : int64_t {
  ADD_MAP,       // + tensor, a map
  MUL_MAP,       // * tensor, a map
  ADD_CHANNEL,   // + tensor, a number per channel
  MUL_CHANNEL,
  ADD_PLANE,     // + tensor, a number per position
  MUL_PLANE,
  AFFINE,        // * weights + weights, per channel
  ADD_NUMBER,
  MUL_NUMBER,
  RELU,
  CLIP,          // between two numbers
  SIGMOID,
  TANH,
  LEAKY,         // below zero times weights, per channel
  ELU,           // below zero a (e^x - 1)
  SELU,
  GELU,          // x / 2 (1 + erf(x / sqrt 2))
  SAVE,          // keep the value
  ADD_SAVED,     // + the value that was kept
  MUL_SAVED,
  SQUARE,
  STORE,         // keep the value as narrow numbers too, for others
  ADD_STORED,    // + what was kept so
  MUL_STORED,
  QUICK_SIGMOID,  // for results that are stored in bfloat16
  STEPS
};

class Chain {
 public:
  // Numbers: the count of steps; of each its kind and operands. `channels` is padded; `positions` of the maps.
  Chain() {}
  Chain(Reader& in, int64_t channels, int64_t positions) : channels_(channels), positions_(positions) {
    const int64_t count = in.number(0, 64);
    bool saved = false;
    for (int64_t k = 0; k < count; ++k) {
      One one;
      one.kind = Step(in.number(0, STEPS - 1));
      switch (one.kind) {
        case ADD_MAP: case MUL_MAP: one.tensor = in.tensor(times(channels, positions)); break;
        case ADD_CHANNEL: case MUL_CHANNEL: one.tensor = in.tensor(channels); break;
        case ADD_PLANE: case MUL_PLANE: one.tensor = in.tensor(positions); break;
        case AFFINE: one.weights = in.weights(2 * channels); break;
        case LEAKY: one.weights = in.weights(channels); break;
        case ADD_NUMBER: case MUL_NUMBER: case ELU: one.a = in.real(); break;
        case CLIP: one.a = in.real(); one.b = in.real(); break;
        case STORE: case ADD_STORED: case MUL_STORED: one.narrow.read(in, channels, positions); break;
        case SAVE: saved = true; break;
        case ADD_SAVED: case MUL_SAVED:
          if (!saved) invalid("a chain asks for a value that it has not kept");
          break;
        default: break;
      }
      steps_.push_back(one);
    }
  }
  bool empty() const { return steps_.empty(); }

  // `from` (count, L), or zeros if it is null, of channel block `block` from position `first` on, through all steps, to `to`;
  // adds to sum and max.
  void run(const Frame& frame, int64_t image, int64_t block, int64_t first, int64_t count, const float* from, float* to,
           V* sum, V* most) const {
    constexpr int64_t T = 16;
    V v[T], saved[T];
    const int64_t map = (block * positions_ + first) * L, channel = block * L;
    for (int64_t p = 0; p < count; p += T) {
      const int n = int(std::min(T, count - p));
      for (int u = 0; u < n; ++u) v[u] = from ? load(from + (p + u) * L) : V{};
      for (const One& one : steps_) step(one, frame, image, map + p * L, channel, first + p, n, v, saved);
      for (int u = 0; u < n; ++u) store(to + (p + u) * L, v[u]);
      if (sum) for (int u = 0; u < n; ++u) *sum += v[u];
      if (most) for (int u = 0; u < n; ++u) *most = maxv(*most, v[u]);
    }
  }

 private:
  struct One {
    Step kind;
    Tensor tensor;
    const float* weights = nullptr;
    float a = 0, b = 0;
    Narrow narrow;
  };
  template <typename F>
  static inline void each(int n, V* v, F f) {
    for (int u = 0; u < n; ++u) v[u] = f(v[u]);
  }
  static inline void step(const One& one, const Frame& frame, int64_t image, int64_t map, int64_t channel, int64_t position,
                          int n, V* v, V* saved) {
    switch (one.kind) {
      case ADD_MAP: { const float* t = one.tensor.at(frame, image) + map; for (int u = 0; u < n; ++u) v[u] += load(t + u * L); break; }
      case MUL_MAP: { const float* t = one.tensor.at(frame, image) + map; for (int u = 0; u < n; ++u) v[u] *= load(t + u * L); break; }
      case ADD_CHANNEL: { const V t = load(one.tensor.at(frame, image) + channel); for (int u = 0; u < n; ++u) v[u] += t; break; }
      case MUL_CHANNEL: { const V t = load(one.tensor.at(frame, image) + channel); for (int u = 0; u < n; ++u) v[u] *= t; break; }
      case ADD_PLANE: { const float* t = one.tensor.at(frame, image) + position; for (int u = 0; u < n; ++u) v[u] += all(t[u]); break; }
      case MUL_PLANE: { const float* t = one.tensor.at(frame, image) + position; for (int u = 0; u < n; ++u) v[u] *= all(t[u]); break; }
      case AFFINE: {
        const V s = load(one.weights + 2 * channel), t = load(one.weights + 2 * channel + L);
        for (int u = 0; u < n; ++u) v[u] = v[u] * s + t;
        break;
      }
      case ADD_NUMBER: { const V t = all(one.a); for (int u = 0; u < n; ++u) v[u] += t; break; }
      case MUL_NUMBER: { const V t = all(one.a); for (int u = 0; u < n; ++u) v[u] *= t; break; }
      case RELU: each(n, v, relu); break;
      case CLIP: { const V a = all(one.a), b = all(one.b); each(n, v, [=](V x) { return between(x, a, b); }); break; }
      case SIGMOID: each(n, v, sigmoid); break;
      case TANH: each(n, v, tangent); break;
      case LEAKY: { const V s = load(one.weights + channel); each(n, v, [=](V x) { return x < all(0.0f) ? x * s : x; }); break; }
      case ELU: { const V a = all(one.a); each(n, v, [=](V x) { return x < all(0.0f) ? a * (exponential(x) - 1.0f) : x; }); break; }
      case SELU:
        each(n, v, [](V x) { return 1.05070098f * (x < all(0.0f) ? 1.67326324f * (exponential(x) - 1.0f) : x); });
        break;
      case GELU: each(n, v, [](V x) { return 0.5f * x * (1.0f + error_function(0.707106781f * x)); }); break;
      case SAVE: for (int u = 0; u < n; ++u) saved[u] = v[u]; break;
      case ADD_SAVED: for (int u = 0; u < n; ++u) v[u] += saved[u]; break;
      case MUL_SAVED: for (int u = 0; u < n; ++u) v[u] *= saved[u]; break;
      case SQUARE: each(n, v, [](V x) { return x * x; }); break;
      case STORE: one.narrow.store(frame, image, position, channel, n, v); break;
      case ADD_STORED: one.narrow.take(frame, image, position, channel, n, [=](V t, int64_t u) { v[u] += t; }); break;
      case MUL_STORED: one.narrow.take(frame, image, position, channel, n, [=](V t, int64_t u) { v[u] *= t; }); break;
      case QUICK_SIGMOID: each(n, v, quick_sigmoid); break;
      case STEPS: break;
    }
  }
  std::vector<One> steps_;
  int64_t channels_ = 0, positions_ = 0;
};

// Where an operator stores sums over its output: rows of partial sums, one for each part of its work.
struct Pools {
  bool sums = false, maxima = false;
  Tensor sum, most;
  int64_t channels = 0;
  // Numbers: a tensor of (rows, channels) for the sums or -1, and one for the maxima or -1.
  void read(Reader& in, int64_t rows, int64_t channels_) {
    channels = channels_;
    if ((sums = in.present())) sum = in.tensor(times(rows, channels));
    if ((maxima = in.present())) most = in.tensor(times(rows, channels));
  }
  void put(const Frame& frame, int64_t image, int64_t row, int64_t block, V s, V m) const {
    if (sums) store(sum.at(frame, image) + row * channels + block * L, s);
    if (maxima) store(most.at(frame, image) + row * channels + block * L, m);
  }
};

// A chain that reads a map and writes one: numbers are channels, positions, parts, input, output, pools, chain. Without an
// input (-1) the chain begins with zeros, to which it adds a narrow map; without an output, only its steps store something.
class Elementwise : public Operator {
 public:
  static std::unique_ptr<Operator> make(Reader& in) { return std::unique_ptr<Operator>(new Elementwise(in)); }
  explicit Elementwise(Reader& in) {
    kind = "elementwise";
    channels_ = in.extent();
    if (channels_ % L) invalid("%lld channels are no whole blocks", (long long)channels_);
    positions_ = in.extent();
    parts_ = in.number(1, positions_);
    if ((reads_ = in.present())) from_ = in.tensor(times(channels_, positions_));
    if ((stores_ = in.present())) to_ = in.tensor(times(channels_, positions_));
    pools_.read(in, parts_, channels_);
    chain_ = Chain(in, channels_, positions_);
  }
  int64_t units() const override { return reads_ ? channels_ / L * parts_ : parts_; }
  int64_t scratch() const override { return reads_ ? 0 : 2 * channels_; }
  void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const override {
    for (int64_t unit = first; unit < last; ++unit) {
      if (!reads_) {
        all_blocks(frame, image, unit);
        continue;
      }
      const int64_t block = unit / parts_, part = unit % parts_;
      V sum = {}, most = all(-INFINITY);
      some(frame, image, block, part * positions_ / parts_, (part + 1) * positions_ / parts_, &sum, &most);
      pools_.put(frame, image, part, block, sum, most);
    }
  }

 private:
  static constexpr int64_t FEW = 16;  // positions

  // All channels of a position of a narrow map lie side by side, so all blocks of a few positions come before the next.
  void all_blocks(const Frame& frame, int64_t image, int64_t part) const {
    const int64_t blocks = channels_ / L, end = (part + 1) * positions_ / parts_;
    V *sums = reinterpret_cast<V*>(frame.scratch), *maxima = sums + blocks;
    for (int64_t b = 0; b < blocks; ++b) {
      sums[b] = V{};
      maxima[b] = all(-INFINITY);
    }
    for (int64_t p = part * positions_ / parts_; p < end; p += FEW)
      for (int64_t b = 0; b < blocks; ++b) some(frame, image, b, p, std::min(end, p + FEW), sums + b, maxima + b);
    for (int64_t b = 0; b < blocks; ++b) pools_.put(frame, image, part, b, sums[b], maxima[b]);
  }
  void some(const Frame& frame, int64_t image, int64_t block, int64_t begin, int64_t end, V* sum, V* most) const {
    float nowhere[FEW * L];
    const int64_t step = stores_ ? end - begin : FEW;
    for (int64_t p = begin; p < end; p += step) {
      const int64_t place = (block * positions_ + p) * L;
      chain_.run(frame, image, block, p, std::min(step, end - p), reads_ ? from_.at(frame, image) + place : nullptr,
                 stores_ ? to_.at(frame, image) + place : nowhere, sum, most);
    }
  }

  int64_t channels_, positions_, parts_;
  Tensor from_, to_;
  bool reads_, stores_;
  Pools pools_;
  Chain chain_;
};
