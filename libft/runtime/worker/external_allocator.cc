#include "runtime/worker/external_allocator.h"

#include "core/status.h"

namespace ft::runtime {
namespace {

constexpr size_t alignment = 256;  // cudaMalloc's

}  // namespace

void* external_allocator::allocate(size_t bytes) {
  count_allocation();
  void* data = from_.allocate(from_.user_data, bytes, index_);
  if (!data)
    fail(FT_ERROR_OUT_OF_MEMORY, "the caller's allocator gave none of the ", bytes, " bytes that are needed on ",
         device_.name());
  if (reinterpret_cast<uintptr_t>(data) % alignment == 0) return data;
  from_.deallocate(from_.user_data, data, bytes, index_);
  fail(FT_ERROR_INVALID_ARGUMENT, "the caller's allocator gave memory on ", device_.name(), " that is not aligned to ",
       alignment, " bytes");
}

void external_allocator::deallocate(void* data, size_t bytes) noexcept {
  try {
    device_.synchronize();
  } catch (...) {  // the GPU's work has failed, and so it has ended
  }
  from_.deallocate(from_.user_data, data, bytes, index_);
}

}  // namespace ft::runtime
