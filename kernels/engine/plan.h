// A plan: tensors, operators and weights, read from tables of whole numbers that are checked before they are used.
//
// A plan file may come from anywhere. Every number that becomes an address is checked here, once, when the plan is opened:
// a tensor lies in its arena, a range of weights in the weights, and an operator asks for no more of either than it reads
// or writes. Afterwards nothing is checked any more.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "lanes.h"

struct Invalid : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] static inline void invalid(const char* format, ...) {
  char text[200];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  throw Invalid(text);
}

constexpr int64_t MOST = int64_t(1) << 34;  // floats of an image, 64 GB: the product of two such numbers is below 2^63 by far

static inline int64_t times(int64_t a, int64_t b) {
  if (a < 0 || b < 0 || (b && a > MOST / b)) invalid("sizes of %lld and %lld are too large", (long long)a, (long long)b);
  return a * b;
}
template <typename... T>
static inline int64_t times(int64_t a, int64_t b, T... rest) {
  return times(times(a, b), rest...);
}

// Where an operator runs: the arenas, and which slot of each an image has.
struct Frame {
  float* own;         // of this thread: one slot
  float* shared;      // of the batch: `slots` slots
  int64_t slots;
  float* scratch;     // of this thread
};

struct Tensor {
  int64_t arena = 0, offset = 0, size = 0;  // floats of one slot
  float* at(const Frame& frame, int64_t image) const {
    return arena ? frame.shared + offset * frame.slots + image * size : frame.own + offset;
  }
};

// Page-aligned memory, zero at first.
class Memory {
 public:
  float* data = nullptr;
  int64_t size = 0;
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { free(data); }
#ifdef __SANITIZE_ADDRESS__
  void forbid() const { __asan_poison_memory_region(data, size_t(size) * 4); }
  void allow(int64_t first, int64_t count) const { __asan_unpoison_memory_region(data + first, size_t(count) * 4); }
#endif
  void need(int64_t floats) {
    if (floats <= size) return;
    free(data);
    data = nullptr;
    size = 0;
    const size_t bytes = size_t(floats) * 4;
    void* fresh = nullptr;
    if (posix_memalign(&fresh, 4096, bytes)) throw std::bad_alloc();
    data = static_cast<float*>(fresh);
    memset(data, 0, bytes);
    size = floats;
  }
};

// The numbers of one operator, read in order.
class Reader {
 public:
  Reader(const int64_t* begin, const int64_t* end, const std::vector<Tensor>& tensors, const float* weights, int64_t count)
      : at_(begin), end_(end), tensors_(tensors), weights_(weights), count_(count) {}
  int64_t number(int64_t low, int64_t high) {
    if (at_ == end_) invalid("an operator has too few numbers");
    const int64_t value = *at_++;
    if (value < low || value > high)
      invalid("%lld is not from %lld to %lld", (long long)value, (long long)low, (long long)high);
    return value;
  }
  int64_t extent() { return number(1, int64_t(1) << 24); }
  float real() {  // the bits of a float32
    const int64_t value = number(0, UINT32_MAX);
    const uint32_t word = uint32_t(value);
    float result;
    memcpy(&result, &word, 4);
    return result;
  }
  // A tensor with room for so many floats; with `optional`, -1 is none.
  Tensor tensor(int64_t floats) {
    const Tensor tensor = tensors_[size_t(number(0, int64_t(tensors_.size()) - 1))];
    if (tensor.size < floats) invalid("a tensor of %lld floats is to hold %lld", (long long)tensor.size, (long long)floats);
    return tensor;
  }
  bool present() {  // of an optional tensor or range that follows, whose number is -1 otherwise
    if (at_ == end_) invalid("an operator has too few numbers");
    if (*at_ != -1) return true;
    ++at_;
    return false;
  }
  const float* weights(int64_t floats) {
    const int64_t offset = number(0, count_);
    if (floats > count_ - offset) invalid("%lld weights are wanted beyond the last", (long long)floats);
    return weights_ + offset;
  }
  // A reader of the numbers that follow, after how many they are.
  Reader part() {
    const int64_t length = number(0, end_ - at_ - 1);  // its own place is not of them
    at_ += length;
    return Reader(at_ - length, at_, tensors_, weights_, count_);
  }
  void finish() const {
    if (at_ != end_) invalid("an operator has %lld numbers too many", (long long)(end_ - at_));
  }

 private:
  const int64_t *at_, *end_;
  const std::vector<Tensor>& tensors_;
  const float* weights_;
  int64_t count_;
};

// One operator. Its work on an image is cut into `units`, which may run in any order and at the same time.
class Operator {
 public:
  virtual ~Operator() {}
  virtual int64_t units() const { return 1; }
  virtual int64_t scratch() const { return 0; }  // floats that a thread needs
  // Whether each unit has weights of its own, so that it is best run for all images before the next.
  virtual bool by_weights() const { return false; }
  virtual void run(const Frame& frame, int64_t image, int64_t first, int64_t last) const = 0;
  const char* kind = "";
  double macs = 0;
};
typedef std::unique_ptr<Operator> (*Maker)(Reader&);
