// Threads that work on one run together, and meet after each operator.
//
// Operators of small networks take some ten microseconds, less than it takes to wake a thread. So threads wait for each
// other in a loop; after a while they offer their core to others with every turn, and between runs they sleep.
#pragma once
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

class Team {
 public:
  // `std::system_error` where the system has no more threads to give.
  explicit Team(int size) : size_(std::max(1, std::min(size, MOST_THREADS))) {
    try {
      for (int t = 1; t < size_; ++t) threads_.emplace_back([this, t] { wait_for_work(t); });
    } catch (...) {
      close();
      throw;
    }
  }
  ~Team() { close(); }
  int size() const { return size_; }
  // Calls work(thread) in every thread of the team, this one included, and returns when all have returned.
  void run(const std::function<void(int)>& work) {
    if (size_ == 1) return work(0);
    {
      std::lock_guard<std::mutex> guard(lock_);
      work_ = &work;
      running_.store(size_, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    work(0);
    running_.fetch_sub(1, std::memory_order_acq_rel);
    spin([this] { return running_.load(std::memory_order_acquire) == 0; });
  }
  // Returns once all threads of the team have called it as often as this one.
  void meet() {
    if (size_ == 1) return;
    const int64_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
    } else {
      spin([this, round] { return round_.load(std::memory_order_acquire) != round; });
    }
  }

 private:
  static constexpr int MOST_THREADS = 256;
  void close() {
    {
      std::lock_guard<std::mutex> guard(lock_);
      closing_ = true;
      ++generation_;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  template <typename F>
  static void spin(F done) {
    for (int turn = 0; !done(); ++turn) {
      if (turn < 4000) __builtin_ia32_pause();
      else sched_yield();
    }
  }
  void wait_for_work(int t) {
    int64_t seen = 0;
    for (;;) {
      for (int turn = 0; turn < 20000 && generation_.load(std::memory_order_acquire) == seen; ++turn) __builtin_ia32_pause();
      {
        std::unique_lock<std::mutex> guard(lock_);
        wake_.wait(guard, [&] { return generation_.load(std::memory_order_acquire) != seen; });
        seen = generation_.load(std::memory_order_relaxed);
        if (closing_) return;
      }
      (*work_)(t);
      running_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
  const int size_;
  std::vector<std::thread> threads_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::atomic<int64_t> generation_{0}, round_{0};
  std::atomic<int> running_{0}, arrived_{0};
  const std::function<void(int)>* work_ = nullptr;
  bool closing_ = false;
};
