// What of a linear layer lies on the GPU: the one copy of its matrix and the two of its bias.
#pragma once

#include "core/memory.h"
#include "ops/backend.h"

namespace ft::cuda {

// Plain rows [out_features, in_features], dense, of the dtype the model computes in: what cuBLASLt, the kernels for few
// rows and the embedding all read.
class cuda_weight final : public packed_weight {
 public:
  cuda_weight(memory& from, const weight_format& made, int64_t rows, int64_t columns)
      : packed_weight(made, rows, columns),
        memory_(from, bytes_of(made, rows, columns)),
        values(memory_.data(), made.data, {rows, columns}) {
    bytes = memory_.bytes();
  }

 private:
  buffer memory_;

 public:
  const tensor values;  // [out_features, in_features]
};

inline const cuda_weight& on_gpu(const packed_weight& weight) { return static_cast<const cuda_weight&>(weight); }

// Kernels of our own add a bias in float32; cuBLASLt adds one of the outputs' dtype.
class cuda_bias final : public packed_bias {
 public:
  cuda_bias(memory& from, dtype compute, int64_t size)
      : packed_bias(size),
        values_(from, bytes_of(dtype::f32, size)),
        rounded_(from, compute == dtype::f32 ? 0 : bytes_of(compute, size)) {
    bytes = values_.bytes() + rounded_.bytes();
  }

  float* values() const { return values_.as<float>(); }
  void* rounded() const { return rounded_.data(); }  // in the dtype the model computes in; null where that is float32

 private:
  buffer values_, rounded_;
};

inline const cuda_bias* on_gpu(const packed_bias* bias) { return static_cast<const cuda_bias*>(bias); }

}  // namespace ft::cuda
