// Weights and biases packed by the CPU's kernels of any level.
#pragma once

#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"

namespace ft::test {

// What is quantised stays so; floats become what a model that computes in `compute` computes on.
inline std::unique_ptr<packed_weight> pack(const cpu::kernels& kernels, const std::vector<tensor>& parts,
                                           dtype compute) {
  const std::vector<stored_weight> stored(parts.begin(), parts.end());
  return kernels.pack(stored, cpu_backend().packed_format(*stored[0].format, compute), cpu::weight_memory());
}

}  // namespace ft::test
