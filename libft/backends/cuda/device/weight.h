// A matrix on the GPU: plain rows [out_features, in_features], dense, of the dtype the model computes in. The copy
// that cuBLASLt, the kernels for few rows and the embedding all read.
#pragma once

#include "core/memory.h"
#include "ops/backend.h"

namespace ft::cuda {

class cuda_weight final : public packed_weight {
 public:
  cuda_weight(memory& from, dtype stored, int64_t rows, int64_t columns)
      : memory_(from, bytes_of(stored, rows * columns)), values(memory_.data(), stored, {rows, columns}) {
    out_features = rows;
    in_features = columns;
    type = stored;
    bytes = memory_.bytes();
  }

 private:
  buffer memory_;

 public:
  const tensor values;  // [out_features, in_features]
};

inline const cuda_weight& on_gpu(const packed_weight& weight) { return static_cast<const cuda_weight&>(weight); }

}  // namespace ft::cuda
