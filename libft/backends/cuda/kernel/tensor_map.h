// Tensor maps: how the copies of whole tiles that GPUs of compute capability 9.0 have (PTX ISA,
// "cp.async.bulk.tensor") are told of a matrix in memory.
#pragma once

#include <cuda.h>

#include "core/tensor.h"

namespace ft::cuda {

// Of three axes, the innermost first and dense; of a 16-bit type, whose start and strides are multiples of 16 bytes.
struct mapped_tensor {
  const void* data;
  dtype type;
  int64_t size[3];
  int64_t stride[2];  // of the outer axes, in elements
  int box[3];         // what a copy takes; the innermost axis is 128 bytes
};

// In shared memory, at a multiple of 1024 bytes, the 16-byte vectors of a row of a box stand at (vector ^ row % 8);
// what lies outside of the tensor is zero. Throws ft::error where the driver has no maps or refuses this one.
CUtensorMap map_of(const mapped_tensor&);

}  // namespace ft::cuda
