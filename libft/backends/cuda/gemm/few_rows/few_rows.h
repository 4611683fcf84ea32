// linear and gated_linear for a few rows, as in decoding: bound by reading the weights once at the speed of memory.
//   few_rows_sm90.cu  up to 32 rows on tensor cores; gates
//   few_rows_sm80.cu  the same on compute capability 8; how the product is cut
//   few_rows.cu       any rows, strides and alignments, without tensor cores
#pragma once

#include "backends/cuda/gemm/product.h"

namespace ft::cuda {

inline constexpr int64_t most_few_rows = 32;  // on tensor cores

// 16-bit types whose rows and weights are aligned to 16 bytes, but for one row of a small matrix.
bool few_rows_sm90_take(const product& p);
void multiply_few_rows_sm90(exec& ex, const product& p);
bool few_rows_sm80_take(const product& p);
void multiply_few_rows_sm80(exec& ex, const product& p);

// What is faster without tensor cores, or has no other kernel. Beyond 8 rows the weights are read once for each 8.
bool few_rows_take(const product& p);
void multiply_few_rows(exec& ex, const product& p);

}  // namespace ft::cuda
