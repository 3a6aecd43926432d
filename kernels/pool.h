// Memory of arrays on CPUs that stays in the process when they are freed, for the arrays that come next.
//
// MXNet asks the C library for every array. What that returns to the system has to be zeroed anew, page by page, which
// takes as long as computing what lies in it; what it keeps lies in a heap for each thread, of which one does not use what
// another has freed. Here all threads share one range of addresses, and an array gets the lowest place that has room, so
// that the process holds little more than the most that was in use at a time.
#ifndef KERNELS_POOL_H_
#define KERNELS_POOL_H_

#include <mxnet/storage.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <unordered_map>

namespace kernels {

class Pool {
 public:
  // The whole range of addresses; pages without contents take no memory. False if there is no such range.
  bool open(size_t bytes) {
    void* begin = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED) return false;
    begin_ = static_cast<char*>(begin), size_ = bytes;
    free_[0] = bytes;
    return true;
  }

  // Room for so many bytes; null if there is none.
  void* take(size_t bytes) {
    const size_t size = (bytes + kPage - 1) / kPage * kPage;
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto place = free_.begin(); place != free_.end(); ++place) {
      if (place->second < size) continue;
      const size_t at = place->first, left = place->second - size;
      free_.erase(place);
      if (left) free_[at + size] = left;
      taken_[at] = size;
      return begin_ + at;
    }
    return nullptr;
  }

  // Takes back what `take` gave; false for other memory.
  bool give(void* memory) {
    if (memory < begin_ || memory >= begin_ + size_) return false;
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = taken_.find(static_cast<char*>(memory) - begin_);
    CHECK(found != taken_.end()) << "memory is freed that nothing has";
    auto place = free_.emplace(found->first, found->second).first;
    taken_.erase(found);
    const auto next = std::next(place);
    if (next != free_.end() && place->first + place->second == next->first) {
      place->second += next->second;
      free_.erase(next);
    }
    if (place != free_.begin()) {
      const auto before = std::prev(place);
      if (before->first + before->second == place->first) {
        before->second += place->second;
        free_.erase(place);
      }
    }
    return true;
  }

 private:
  static constexpr size_t kPage = 4096;
  char* begin_ = nullptr;
  size_t size_ = 0;
  std::mutex mutex_;
  std::map<size_t, size_t> free_;  // position -> size, of what has no free neighbour
  std::unordered_map<size_t, size_t> taken_;
};

// MXNet's storage with its functions for arrays on CPUs replaced.
struct PooledStorage {
  typedef mxnet::Storage Storage;
  enum { kAlloc, kSharedIncrementRefCount, kFree, kDirectFree, kReleaseAll, kFunctions = 7 };  // as they are declared
  static constexpr size_t kLeast = 32768;  // bytes; smaller arrays are the C library's

  static Pool& pool() {
    static Pool* one = new Pool;  // arrays may be freed after whatever is destroyed at the end
    return *one;
  }

  static void**& original() {
    static void** functions = nullptr;
    return functions;
  }

  static void alloc(Storage* self, Storage::Handle* handle) {
    if (handle->ctx.dev_type == mxnet::Context::kCPU && handle->size >= kLeast) {
      handle->dptr = pool().take(handle->size);
      if (handle->dptr != nullptr) return;
    }
    reinterpret_cast<void (*)(Storage*, Storage::Handle*)>(original()[kAlloc])(self, handle);
  }

  template <int function>
  static void give(Storage* self, Storage::Handle handle) {
    if (handle.ctx.dev_type == mxnet::Context::kCPU && pool().give(handle.dptr)) return;
    reinterpret_cast<void (*)(Storage*, Storage::Handle)>(original()[function])(self, handle);
  }

  // Nothing may be under way meanwhile.
  static bool install() {
    if (original() != nullptr) return true;
    const size_t memory = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    if (!pool().open(2 * memory)) return false;
    static void* functions[2 + kFunctions];
    void**& own = *reinterpret_cast<void***>(Storage::Get());
    std::copy(own - 2, own + kFunctions, functions);  // with what runtime type information needs, before the functions
    original() = own;
    functions[2 + kAlloc] = reinterpret_cast<void*>(alloc);
    functions[2 + kFree] = reinterpret_cast<void*>(give<kFree>);
    functions[2 + kDirectFree] = reinterpret_cast<void*>(give<kDirectFree>);
    own = functions + 2;
    return true;
  }
};

}  // namespace kernels

#endif  // KERNELS_POOL_H_
