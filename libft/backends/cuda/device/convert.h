// From one float dtype to another, outside any model's pass.
#pragma once

#include <cuda_runtime_api.h>

#include "core/tensor.h"

namespace ft::cuda {

// to = from; both contiguous and of as many elements, on the device.
void convert(const tensor& to, const tensor& from, cudaStream_t stream);

}  // namespace ft::cuda
