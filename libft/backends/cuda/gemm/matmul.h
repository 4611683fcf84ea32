// Matrix products of many rows: cuBLASLt, with its choice of algorithm kept by shape.
#pragma once

#include "backends/cuda/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

// out = x · weightᵀ + addend, in one call of cuBLASLt; addend is null or as `out`. Sums are float32 (no TF32).
void matmul(exec& ex, const tensor& out, const tensor& x, const cuda_weight& weight, const tensor& addend);

// Whether cuBLASLt takes operands that lie like these.
bool matmul_takes(const tensor& out, const tensor& x, const cuda_weight& weight);

}  // namespace ft::cuda
