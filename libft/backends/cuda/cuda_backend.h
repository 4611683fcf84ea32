// One GPU as a device: memory, copies, streams, weights; the kernels stand in cuda_ops.h.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "backends/plugin.h"
#include "ops/backend.h"

namespace ft::cuda {

// The GPUs of this process and what the plug-in tells of them; found at the first call. Thread-safe.
const plugin& cuda_plugin();

// Allocations are counted here too; null: nowhere.
void set_allocation_counter(void (*count)());

}  // namespace ft::cuda
