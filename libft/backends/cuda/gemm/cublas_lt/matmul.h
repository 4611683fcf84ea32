// Matrix products of many rows: cuBLASLt, by the algorithms that heuristics.h chooses.
#pragma once

#include "backends/cuda/gemm/product.h"

namespace ft::cuda {

// out = x · weightᵀ in one call of cuBLASLt, and of bias, activation and residual what it can add before it writes.
// Returns what is left to do of the product, from x, where it now lies. Sums are float32 (no TF32).
product matmul(exec& ex, const product& p);

// Whether cuBLASLt leaves nothing to do of this product, where it has an algorithm at all.
bool matmul_finishes(const product& p);

// Whether cuBLASLt takes operands that lie like these.
bool matmul_takes(const product& p);

}  // namespace ft::cuda
