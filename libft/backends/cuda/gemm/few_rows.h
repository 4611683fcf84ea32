// linear for a few rows, as in decoding: bound by reading the weights.
#pragma once

#include "backends/cuda/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

// Up to this many rows the kernel is faster than a matrix product that fills tiles.
inline constexpr int64_t few_rows = 8;

// Takes any number of rows, any strides and alignments; beyond few_rows it reads the weights once for each so many.
void multiply_few_rows(exec& ex, const linear_args& args, const cuda_weight& weight);

}  // namespace ft::cuda
