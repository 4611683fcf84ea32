// A fixed team of threads for data-parallel loops. Workers spin for a short while after a loop, since decoding
// runs thousands of small loops a second, and sleep after that.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ft {

class thread_pool {
 public:
  // `threads` counts the calling thread: 1 starts none. 0 takes one a core that this process may run on.
  explicit thread_pool(int threads);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(worker) once on every worker, 0 <= worker < size(), the caller being worker 0; returns when all
  // have. Bodies must not throw. One caller at a time; not from inside a body. Allocates nothing.
  template <class Body>
  void run(Body&& body) {
    run_erased([](void* b, int worker) { (*static_cast<std::remove_reference_t<Body>*>(b))(worker); },
               const_cast<void*>(static_cast<const void*>(&body)));
  }

  // Splits [0, count) into chunks of `grain` taken dynamically: body(begin, end, worker).
  template <class Body>
  void parallel_for(int64_t count, int64_t grain, Body&& body) {
    if (count <= 0) return;
    if (workers_.empty() || count <= grain) {
      body(int64_t{0}, count, 0);
      return;
    }
    std::atomic<int64_t> next{0};
    run([&](int worker) {
      for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < count;)
        body(begin, begin + grain < count ? begin + grain : count, worker);
    });
  }

  // Calls body(i) for 0 <= i < count, which may throw: the first exception is thrown again here, and what had not
  // begun by then does not run.
  template <class Body>
  void parallel_for_or_throw(int64_t count, Body&& body) {
    std::exception_ptr failure;
    std::mutex mutex;
    std::atomic<bool> failed{false};
    parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end && !failed; ++i) {
        try {
          body(i);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!failed.exchange(true)) failure = std::current_exception();
        }
      }
    });
    if (failure) std::rethrow_exception(failure);
  }

 private:
  using erased_body = void (*)(void*, int);
  void run_erased(erased_body body, void* argument);
  void work(int worker);
  void stop();

  std::vector<std::thread> workers_;
  std::atomic<uint64_t> generation_{0};  // grows by one a loop
  std::atomic<int> running_{0};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> stopping_{false};
  erased_body body_ = nullptr;
  void* argument_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  pid_t owner_;  // the workers exist in this process only
};

// Cores that this process may run on (its affinity mask).
int usable_cores();

}  // namespace ft
