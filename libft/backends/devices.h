// The devices of this process: the CPU and, where libft_cuda.so lies beside libft and finds them, GPUs.
#pragma once

#include <ft/tensor.h>

#include <span>
#include <string>

#include "ops/backend.h"

namespace ft {

struct device_entry {
  ft_device id{};
  std::string name;  // "cpu", "cuda:0"
  std::string description;
  std::string capabilities;
  uint64_t memory_bytes = 0;
  backend* device = nullptr;
};

// The CPU first. Found at the first call; thread-safe.
std::span<const device_entry> devices();

// Why there is no GPU among them; empty when there is one.
const std::string& gpu_problem();

// "auto" (the first GPU, else the CPU), "cpu", "cuda" or "cuda:N". Throws ft::error for any other, and for a GPU that
// is not there.
const device_entry& device_named(const std::string& name);

// Null where this process has no such device.
const device_entry* find_device(const ft_device& id);
// Of one of the devices.
const device_entry& device_of(const backend& device);

}  // namespace ft
