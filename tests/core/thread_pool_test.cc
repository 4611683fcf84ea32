// A thread pool whose threads cannot all be started: those that were must end.
#include "core/thread_pool.h"

#include <chrono>
#include <cstdlib>
#include <new>
#include <random>
#include <thread>

#include "check.h"

using namespace ft;

namespace {

// Allocations of this thread until one is refused (0: none is), and how long that takes.
thread_local int until_refusal = 0;
thread_local std::chrono::nanoseconds delay{0};

}  // namespace

void* operator new(std::size_t bytes) {
  if (until_refusal > 0 && --until_refusal == 0) {
    for (const auto end = std::chrono::steady_clock::now() + delay; std::chrono::steady_clock::now() < end;) {
    }
    throw std::bad_alloc();
  }
  if (void* data = std::malloc(bytes ? bytes : 1)) return data;
  throw std::bad_alloc();
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }

// The refusal comes when the workers are about to stop spinning: one that has just seen nothing to do must not fall
// asleep after it was told to end.
TEST(thread_pool_ends_what_it_had_started) {
  std::mt19937 random(std::random_device{}());
  for (int round = 0; round < 8000; ++round) {
    delay = std::chrono::nanoseconds(198000 + random() % 20000);  // they spin for 200 us
    until_refusal = 3;                                            // the list of threads, the first thread, the second
    bool refused = false;
    try {
      thread_pool pool(3);
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    until_refusal = 0;
    CHECK(refused);
  }
}
