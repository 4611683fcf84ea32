// linear and gated_linear for a few rows, as in decoding: bound by reading the weights. A gated product comes as that
// of linear whose output has half as many features as the weight, and only where few_rows_can_be_gated.
#pragma once

#include "backends/cuda/device/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

// How many rows of such a product these kernels compute at the speed of memory: 32 on tensor cores (16-bit types, rows
// and weights aligned to 16 bytes), else 8.
int64_t most_few_rows(const linear_args& args, const cuda_weight& weight);

// Takes any number of rows, any strides and alignments; beyond most_few_rows it reads the weights once for each so
// many.
void multiply_few_rows(exec& ex, const linear_args& args, const cuda_weight& weight);

// Whether such a product goes to the one of these kernels that takes gated ones too, by copied tiles.
bool few_rows_can_be_gated(const linear_args& args, const cuda_weight& weight);

// The same on tensor cores, for up to most_few_rows rows, where they take such rows and weights.
bool on_tensor_cores(const linear_args& args, const cuda_weight& weight);
void multiply_few_rows_on_tensor_cores(exec& ex, const linear_args& args, const cuda_weight& weight);

}  // namespace ft::cuda
