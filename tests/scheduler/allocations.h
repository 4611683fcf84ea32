// Counts what this program takes from the heap: it has an operator new of its own (allocations.cc).
#pragma once

#include <cstdint>

namespace ft::test {

// By this thread, so far, but for what it took while it had an `uncounted`.
int64_t allocations();

class uncounted {
 public:
  uncounted();
  ~uncounted();
  uncounted(const uncounted&) = delete;
  uncounted& operator=(const uncounted&) = delete;
};

}  // namespace ft::test
