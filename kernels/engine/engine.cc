// The inference engine: a network as one flat list of operators on memory that is laid out in advance.
//
// Python makes the list (inference/engine); this file opens it, checks every number in it, and runs it. See docs/engine.md.
#include <chrono>

#include "convolution.h"
#include "dense.h"
#include "depthwise.h"
#include "narrow_convolution.h"
#include "narrow_depthwise.h"
#include "norm.h"
#include "plain.h"
#include "pool.h"
#include "reduce.h"
#include "resize.h"
#include "stem.h"
#include "threads.h"
#include "together.h"
#include "winograd.h"

namespace {

constexpr int64_t VERSION = 3;
// The order is that of inference/engine/operators.py.
const Maker MAKERS[] = {
    Stem::make,        Convolution::make, Winograd::make, Depthwise::make, Pool::make,  Border::make,
    Elementwise::make, Join::make,        OverChannels::make, Weighted::make, Dense::make, Copy::make,
    Plain::make,       Along::make,       LayerNorm::make, Products::make, Planes::make, Resize::make,
    Constant::make,    GroupDot::make,    GroupNorm::make, NarrowConvolution::make, Edge::make, Image::make,
    NarrowPool::make,  Phases::make,      NarrowDepthwise::make, NarrowResize::make,
};

constexpr int64_t KNOWN = int64_t(sizeof MAKERS / sizeof *MAKERS);
// The kind after the last is operators that take turns, which do not contain each other.
std::unique_ptr<Operator> operator_of(int64_t kind, Reader& reader) {
  if (kind == KNOWN) return std::unique_ptr<Operator>(new Together(reader, MAKERS, KNOWN));
  return MAKERS[kind](reader);
}

thread_local std::string last_error;

class Engine {
 public:
  Engine(const int64_t* table, int64_t count, const float* weights, int64_t weight_count, int threads) : team_(threads) {
    const int64_t *at = table, *const end = table + count;
    const auto number = [&](int64_t low, int64_t high) {
      if (at == end) invalid("the plan ends early");
      const int64_t value = *at++;
      if (value < low || value > high) invalid("the plan says %lld where %lld to %lld are allowed", (long long)value, (long long)low, (long long)high);
      return value;
    };
    if (number(INT64_MIN, INT64_MAX) != VERSION) invalid("the plan is of another version");
    if (number(INT64_MIN, INT64_MAX) != L) invalid("the plan is for another number of lanes than %d", L);
    const int64_t tensors = number(0, 1 << 20), operators = number(0, 1 << 20);
    own_size_ = number(0, MOST);
    shared_size_ = number(0, MOST);
    boundary_ = number(0, operators);
    batch_ = number(1, 1 << 20);
    if (shared_size_ > MOST / batch_) invalid("the memory of the batch is too large");
    const int64_t input = number(0, tensors - 1);
    input_size_ = number(1, MOST);
    const int64_t output = number(0, tensors - 1);
    output_size_ = number(1, MOST);
    for (int64_t t = 0; t < tensors; ++t) {
      Tensor tensor;
      tensor.arena = number(0, 1);
      tensor.offset = number(0, tensor.arena ? shared_size_ : own_size_);
      tensor.size = number(0, (tensor.arena ? shared_size_ : own_size_) - tensor.offset);
      tensors_.push_back(tensor);
    }
    input_ = tensors_[size_t(input)];
    output_ = tensors_[size_t(output)];
    if (input_.size < input_size_ || output_.size < output_size_) invalid("input or output lies outside its tensor");
    for (int64_t k = 0; k < operators; ++k) {
      const int64_t kind = number(0, KNOWN);
      const int64_t length = number(0, end - at - 1);  // its own place is not of them
      Reader reader(at, at + length, tensors_, weights, weight_count);
      operators_.push_back(operator_of(kind, reader));
      reader.finish();
      at += length;
      scratch_size_ = std::max(scratch_size_, operators_.back()->scratch());
    }
    if (at != end) invalid("the plan has numbers beyond its last operator");
    own_.reset(new Memory[size_t(team_.size())]);
    scratch_.reset(new Memory[size_t(team_.size())]);
    for (int t = 0; t < team_.size(); ++t) {
      own_[size_t(t)].need(own_size_);
      scratch_[size_t(t)].need(scratch_size_);
    }
    shared_.need(shared_size_ * batch_);
    forbid_gaps();
    seconds_.assign(operators_.size(), 0.0);
  }

  void run(const float* input, float* output, int64_t images) {
    std::lock_guard<std::mutex> guard(lock_);
    for (int64_t done = 0; done < images; done += batch_)
      some(input + done * input_size_, output + done * output_size_, std::min(batch_, images - done));
  }

  // Like run, on one thread, with the time of every operator.
  void profile(const float* input, float* output, int64_t images) {
    std::lock_guard<std::mutex> guard(lock_);
    images = std::min(batch_, images);
    const Frame frame = frame_of(0);
    std::fill(seconds_.begin(), seconds_.end(), 0.0);
    const auto timed = [&](size_t k, int64_t image) {
      const auto start = std::chrono::steady_clock::now();
      operators_[k]->run(frame, image, 0, operators_[k]->units());
      seconds_[k] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    for (int64_t image = 0; image < images; ++image) {
      enter(frame, input, image);
      for (size_t k = 0; k < size_t(boundary_); ++k) timed(k, image);
      if (boundary_ == int64_t(operators_.size())) leave(frame, output, image);
    }
    if (boundary_ == int64_t(operators_.size())) return;
    for (size_t k = size_t(boundary_); k < operators_.size(); ++k) {
      const auto start = std::chrono::steady_clock::now();
      share(*operators_[k], frame, images, 0, images * operators_[k]->units());
      seconds_[k] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    for (int64_t image = 0; image < images; ++image) leave(frame, output, image);
  }

  int64_t size() const { return int64_t(operators_.size()); }
  const Operator& operator[](int64_t k) const { return *operators_[size_t(k)]; }
  double seconds(int64_t k) const { return seconds_[size_t(k)]; }

 private:
  // For AddressSanitizer: memory outside of tensors is poisoned.
  void forbid_gaps() const {
#ifdef __SANITIZE_ADDRESS__
    shared_.forbid();
    for (int t = 0; t < team_.size(); ++t) own_[size_t(t)].forbid();
    for (const Tensor& tensor : tensors_) {
      if (tensor.arena) shared_.allow(tensor.offset * batch_, tensor.size * batch_);
      else for (int t = 0; t < team_.size(); ++t) own_[size_t(t)].allow(tensor.offset, tensor.size);
    }
#endif
  }
  Frame frame_of(int thread) {
    return {own_[size_t(thread)].data, shared_.data, batch_, scratch_[size_t(thread)].data};
  }
  void enter(const Frame& frame, const float* input, int64_t image) const {
    memcpy(input_.at(frame, image), input + image * input_size_, size_t(input_size_) * 4);
  }
  void leave(const Frame& frame, float* output, int64_t image) const {
    memcpy(output + image * output_size_, output_.at(frame, image), size_t(output_size_) * 4);
  }
  // Runs the units of all images from `first` to `last`, counted image by image, or all images of a unit in a row.
  static void share(const Operator& one, const Frame& frame, int64_t images, int64_t first, int64_t last) {
    const int64_t units = one.units();
    if (one.by_weights()) {
      for (int64_t k = first; k < last; ++k) one.run(frame, k % images, k / images, k / images + 1);
      return;
    }
    for (int64_t k = first; k < last;) {
      const int64_t image = k / units, end = std::min(last, (image + 1) * units);
      one.run(frame, image, k - image * units, end - image * units);
      k = end;
    }
  }
  void some(const float* input, float* output, int64_t images) {
    next_.store(0, std::memory_order_relaxed);
    team_.run([&](int thread) { part(thread, input, output, images); });
  }
  void part(int thread, const float* input, float* output, int64_t images) {
    const Frame frame = frame_of(thread);
    const bool whole = boundary_ == int64_t(operators_.size());
    for (;;) {
      const int64_t image = next_.fetch_add(1, std::memory_order_relaxed);
      if (image >= images) break;
      enter(frame, input, image);
      for (int64_t k = 0; k < boundary_; ++k) operators_[size_t(k)]->run(frame, image, 0, operators_[size_t(k)]->units());
      if (whole) leave(frame, output, image);
    }
    if (whole) return;
    const int64_t size = team_.size();
    for (size_t k = size_t(boundary_); k < operators_.size(); ++k) {
      team_.meet();
      const int64_t all_units = images * operators_[k]->units();
      share(*operators_[k], frame, images, thread * all_units / size, (thread + 1) * all_units / size);
    }
    team_.meet();
    for (int64_t image = thread; image < images; image += size) leave(frame, output, image);
  }

  Team team_;
  std::mutex lock_;
  std::atomic<int64_t> next_{0};
  int64_t own_size_ = 0, shared_size_ = 0, scratch_size_ = 0, boundary_ = 0, batch_ = 1, input_size_ = 0, output_size_ = 0;
  std::vector<Tensor> tensors_;
  Tensor input_, output_;
  std::vector<std::unique_ptr<Operator>> operators_;
  std::vector<double> seconds_;
  std::unique_ptr<Memory[]> own_, scratch_;
  Memory shared_;
};

template <typename F>
auto guarded(F work, decltype(work()) failed) -> decltype(work()) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    last_error = "there is not enough memory";
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return failed;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int engine_lanes() { return L; }
// Whether convolutions of bfloat16 (0) or bytes (1) run here: 0 no, 1 yes, 2 by tiles.
EXPORTED int engine_narrow(int kind) {
  if (kind < 0 || kind >= KINDS || !multiplies(Kind(kind))) return 0;
#ifdef HAS_TILES
  if (has_tiles(Kind(kind))) return 2;
#endif
  return 1;
}
// Why the last call of this thread failed.
EXPORTED const char* engine_error() { return last_error.c_str(); }
// Opens a plan; null if it is invalid. `weights` remain the caller's, and must outlive the plan.
EXPORTED void* engine_open(const int64_t* table, int64_t count, const float* weights, int64_t weight_count, int threads) {
  return guarded([&]() -> void* { return new Engine(table, count, weights, weight_count, threads); }, nullptr);
}
EXPORTED int engine_run(void* engine, const float* input, float* output, int64_t images) {
  return guarded([&] { static_cast<Engine*>(engine)->run(input, output, images); return 0; }, -1);
}
EXPORTED int engine_profile(void* engine, const float* input, float* output, int64_t images) {
  return guarded([&] { static_cast<Engine*>(engine)->profile(input, output, images); return 0; }, -1);
}
EXPORTED int64_t engine_size(void* engine) { return static_cast<Engine*>(engine)->size(); }
EXPORTED const char* engine_kind(void* engine, int64_t k) { return (*static_cast<Engine*>(engine))[k].kind; }
EXPORTED double engine_seconds(void* engine, int64_t k) { return static_cast<Engine*>(engine)->seconds(k); }
EXPORTED double engine_macs(void* engine, int64_t k) { return (*static_cast<Engine*>(engine))[k].macs; }
// 256 sums, which change with any bit of `words`: a digest at the speed of memory, for weights of hundreds of megabytes.
EXPORTED void engine_sums(const uint32_t* words, int64_t count, uint32_t* sums) {
  uint32_t sum[256];
  for (uint32_t k = 0; k < 256; ++k) sum[k] = k + uint32_t(count);
  const auto take = [&](const uint32_t* at, int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
      const uint32_t mixed = (sum[k] ^ at[k]) * 0x9E3779B1u;  // both steps can be undone: no change gets lost
      sum[k] = mixed ^ (mixed >> 16);
    }
  };
  int64_t at = 0;
  for (; at + 256 <= count; at += 256) take(words + at, 256);
  take(words + at, count - at);
  memcpy(sums, sum, sizeof sum);
}
EXPORTED void engine_close(void* engine) { delete static_cast<Engine*>(engine); }
