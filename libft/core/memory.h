// Memory from some device, and the buffer that owns a piece of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ft {

// Where memory comes from. Thread-safe. allocate() throws std::bad_alloc or ft::error when there is none.
class memory {
 public:
  virtual ~memory() = default;
  virtual void* allocate(size_t bytes) = 0;  // aligned to 64 bytes or more; contents undefined
  virtual void deallocate(void* data, size_t bytes) noexcept = 0;
};

// The host's heap, through operator new, so that a program's own operator new sees every allocation.
memory& host_memory();

// Allocations made through any ft::memory by this process so far: steady-state tests compare two readings.
uint64_t allocation_count();
void count_allocation();

class buffer {
 public:
  buffer() = default;
  buffer(memory& from, size_t bytes) : from_(&from), data_(bytes ? from.allocate(bytes) : nullptr), bytes_(bytes) {}
  buffer(buffer&& other) noexcept { swap(other); }
  buffer& operator=(buffer&& other) noexcept {
    buffer(std::move(other)).swap(*this);
    return *this;
  }
  buffer(const buffer&) = delete;
  buffer& operator=(const buffer&) = delete;
  ~buffer() {
    if (data_) from_->deallocate(data_, bytes_);
  }

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

  void swap(buffer& other) noexcept {
    std::swap(from_, other.from_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

 private:
  memory* from_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ft
