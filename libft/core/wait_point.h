// Where threads wait for something to hold that others bring about, in this process or, where the memory is shared, in
// others. Who waits looks again for a moment, as long as what is near takes, then sleeps (futex(2)).
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace ft {

class wait_point {
 public:
  // Returns when `holds()` does. What it reads must be atomic, and written in sequential consistency before notify().
  template <class Condition>
  void await(Condition&& holds) {
    constexpr int looks = 2000;  // some tens of microseconds
    for (int i = 0; i < looks; ++i) {
      if (holds()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    sleepers_.fetch_add(1);
    for (;;) {
      const uint32_t seen = changes_.load();
      if (holds()) break;
      wait_while(seen);
    }
    sleepers_.fetch_sub(1);
  }

  // Something may hold now. Costs a read where nobody sleeps.
  void notify() noexcept {
    if (sleepers_.load() == 0) return;
    changes_.fetch_add(1);
    syscall(SYS_futex, address(), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }

 private:
  using word = std::atomic<uint32_t>;
  static_assert(sizeof(word) == 4 && word::is_always_lock_free);

  uint32_t* address() { return reinterpret_cast<uint32_t*>(&changes_); }
  void wait_while(uint32_t value) { syscall(SYS_futex, address(), FUTEX_WAIT, value, nullptr, nullptr, 0); }

  word changes_{0}, sleepers_{0};
};

}  // namespace ft
