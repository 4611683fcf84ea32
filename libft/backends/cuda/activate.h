// The activation functions on the device, in float32; epilogues of matrix products use them too.
#pragma once

#include "ops/activation.h"

namespace ft::cuda {

// v[i] = f(v[i]); the kind is uniform over the launch, so that the branch costs one comparison a vector.
template <int V>
__device__ inline void activate(activation_kind kind, float (&v)[V]) {
#define FT_EACH(expression)                       \
  _Pragma("unroll") for (int i = 0; i < V; ++i) { \
    const float x = v[i];                         \
    v[i] = (expression);                          \
  }                                               \
  return
  switch (kind) {
    case activation_kind::none:
      return;
    case activation_kind::relu:
      FT_EACH(x < 0 ? 0 : x);
    case activation_kind::gelu:
      FT_EACH(0.5f * x * (1 + erff(x * 0.70710678118654752f)));
    case activation_kind::gelu_tanh:  // 0.5 x (1 + tanh u) = x σ(2 u): no cancellation where tanh u is near -1
      FT_EACH(__fdividef(x, 1 + __expf(-1.5957691216057308f * (x + 0.044715f * x * x * x))));
    case activation_kind::silu:
      FT_EACH(__fdividef(x, 1 + __expf(-x)));
    case activation_kind::tanh:
      FT_EACH(tanhf(x));
  }
#undef FT_EACH
}

}  // namespace ft::cuda
