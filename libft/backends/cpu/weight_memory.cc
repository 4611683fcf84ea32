// Slabs of huge pages.
#include "backends/cpu/weight_memory.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ft::cpu {
namespace {

constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t slab_bytes = size_t{32} << 20;  // pages that no piece reaches are never touched, so never in memory

// Pieces are cut off a slab in order and not reused one by one: a model's weights come together and go together.
struct slab {
  buffer memory;  // with room to begin at a huge page
  char* begin = nullptr;
  size_t bytes = 0;
  size_t used = 0;
  size_t pieces = 0;
};

slab make_slab(size_t bytes) {
  slab s;
  s.bytes = (bytes + huge_page - 1) / huge_page * huge_page;
  s.memory = buffer(host_memory(), s.bytes + huge_page);
  const uintptr_t address = reinterpret_cast<uintptr_t>(s.memory.data());
  s.begin = s.memory.as<char>() + (huge_page - address % huge_page) % huge_page;
#if defined(__linux__)
  madvise(s.begin, s.bytes, MADV_HUGEPAGE);  // a wish: the system may refuse, and small pages serve as well
#endif
  return s;
}

class slabs final : public memory {
 public:
  void* allocate(size_t bytes) override {
    bytes = (bytes + 63) & ~size_t{63};
    const std::lock_guard lock(mutex_);
    auto with_room = std::find_if(slabs_.begin(), slabs_.end(),
                                  [&](const auto& entry) { return entry.second.bytes - entry.second.used >= bytes; });
    if (with_room == slabs_.end()) {
      slab made = make_slab(std::max(bytes, slab_bytes));
      char* begin = made.begin;
      with_room = slabs_.emplace(begin, std::move(made)).first;
    }
    slab& s = with_room->second;
    char* piece = s.begin + s.used;
    s.used += bytes;
    ++s.pieces;
    return piece;
  }

  void deallocate(void* data, size_t) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto owner = std::prev(slabs_.upper_bound(static_cast<char*>(data)));
    if (--owner->second.pieces == 0) slabs_.erase(owner);
  }

 private:
  std::mutex mutex_;
  std::map<char*, slab> slabs_;  // by where they begin
};

}  // namespace

memory& weight_memory() {
  static slabs& instance = *new slabs;  // never destroyed: weights may live in a program's own static objects
  return instance;
}

}  // namespace ft::cpu
