#include "core/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "core/thread_start.h"

namespace ft {
namespace {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Long enough to bridge the serial code between two loops of a decode step, too short to cost idle power.
constexpr auto spin_time = std::chrono::microseconds(200);

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

thread_pool::thread_pool(int threads) : owner_(getpid()) {
  const int total = threads > 0 ? threads : usable_cores();
  workers_.reserve(static_cast<size_t>(total - 1));
  try {
    for (int i = 1; i < total; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {
    stop();
    throw;
  }
}

thread_pool::~thread_pool() {
  if (getpid() != owner_) {  // after fork(): the threads were not copied, so there is nothing to join
    for (std::thread& t : workers_) t.detach();
    return;
  }
  stop();
}

void thread_pool::stop() {
  {
    std::lock_guard lock(mutex_);  // else a worker that has just looked would go to sleep after the call that wakes it
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : workers_) t.join();
}

void thread_pool::run_erased(erased_body body, void* argument) {
  if (workers_.empty()) {
    body(argument, 0);
    return;
  }
  body_ = body;
  argument_ = argument;
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);  // publishes body_; sequentially consistent with sleeping_ below
  if (sleeping_.load() > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  body(argument, 0);
  for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins) {
    relax();
    if (spins % 256 == 255) std::this_thread::yield();  // a worker may have lost its core to another program
  }
}

void thread_pool::work(int worker) {
  begin_thread();
  uint64_t seen = 0;
  for (;;) {
    auto deadline = std::chrono::steady_clock::now() + spin_time;
    for (int spins = 0; generation_.load(std::memory_order_acquire) == seen && !stopping_; ++spins) {
      relax();
      if (spins % 64 == 63 && std::chrono::steady_clock::now() > deadline) {
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1);
        wake_.wait(lock, [&] { return generation_.load() != seen || stopping_; });
        sleeping_.fetch_sub(1);
      }
    }
    if (generation_.load(std::memory_order_acquire) == seen) return;  // stopping
    ++seen;
    body_(argument_, worker);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ft
