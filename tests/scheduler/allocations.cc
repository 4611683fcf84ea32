#include "scheduler/allocations.h"

#include <cstdlib>
#include <new>

namespace {

thread_local int64_t counted = 0;
thread_local int not_counting = 0;

void* take(std::size_t bytes) {
  counted += not_counting == 0;
  return std::malloc(bytes ? bytes : 1);
}

}  // namespace

// The others come down to these.
void* operator new(std::size_t bytes) {
  if (void* data = take(bytes)) return data;
  throw std::bad_alloc();
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }

namespace ft::test {

int64_t allocations() { return counted; }
uncounted::uncounted() { ++not_counting; }
uncounted::~uncounted() { --not_counting; }

}  // namespace ft::test
