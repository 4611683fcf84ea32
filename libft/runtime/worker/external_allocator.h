// Device memory that the program around us gives and takes back.
#pragma once

#include "core/memory.h"
#include "ops/backend.h"

namespace ft::runtime {

// As ft_model_options has it.
struct caller_allocator {
  void* (*allocate)(void* user_data, size_t bytes, int device) = nullptr;
  void (*deallocate)(void* user_data, void* data, size_t bytes, int device) = nullptr;
  void* user_data = nullptr;
};

class external_allocator final : public memory {
 public:
  // `index` is the device's number among its kind, which the caller is told.
  external_allocator(backend& device, int index, const caller_allocator& from)
      : device_(device), index_(index), from_(from) {}

  void* allocate(size_t bytes) override;
  // When no work of the device can still be using it: the caller may hand it out again at once.
  void deallocate(void* data, size_t bytes) noexcept override;

 private:
  backend& device_;
  int index_;
  caller_allocator from_;
};

}  // namespace ft::runtime
