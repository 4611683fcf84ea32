// Matrix products of many rows: cuBLASLt, by the algorithms that plans.h chooses.
#pragma once

#include "backends/cuda/device/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

// out = x · weightᵀ in one call of cuBLASLt, and of bias, activation and residual what it can add before it writes.
// Returns what is left to do of `args`, from x, where the product now lies. Sums are float32 (no TF32).
linear_args matmul(exec& ex, const linear_args& args);

// Whether cuBLASLt leaves nothing to do of these args, where it has an algorithm at all.
bool matmul_finishes(const linear_args& args);

// Whether cuBLASLt takes operands that lie like these.
bool matmul_takes(const linear_args& args);

}  // namespace ft::cuda
