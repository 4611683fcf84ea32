#include "core/memory.h"

#include <atomic>
#include <new>

namespace ft {
namespace {

std::atomic<uint64_t> allocations{0};

constexpr std::align_val_t alignment{64};

class heap final : public memory {
 public:
  void* allocate(size_t bytes) override {
    count_allocation();
    return ::operator new(bytes, alignment);
  }
  void deallocate(void* data, size_t) noexcept override { ::operator delete(data, alignment); }
};

}  // namespace

memory& host_memory() {
  static heap instance;
  return instance;
}

uint64_t allocation_count() { return allocations.load(std::memory_order_relaxed); }
void count_allocation() { allocations.fetch_add(1, std::memory_order_relaxed); }

}  // namespace ft
