// The activation functions on the device, in float32; epilogues of matrix products use them too.
#pragma once

#include "ops/activation.h"

namespace ft::cuda {

// x Φ(x) for results that are rounded to 16 bits: Φ(-|x|) by Abramowitz and Stegun's 7.1.26, within 7.5e-8, which
// takes a third of erff's instructions; those, not memory, would set the speed of a pass over halves.
__device__ inline float gelu_for_halves(float x) {
  const float z = fabsf(x) * 0.70710678118654752f, t = __fdividef(1.f, fmaf(0.3275911f, z, 1.f));
  float tail = fmaf(1.061405429f, t, -1.453152027f);
  tail = fmaf(tail, t, 1.421413741f);
  tail = fmaf(tail, t, -0.284496736f);
  tail = fmaf(tail, t, 0.254829592f);
  tail *= 0.5f * t * __expf(-z * z);
  return x * (x < 0 ? tail : 1 - tail);
}

// v[i] = f(v[i]); the kind is uniform over the launch, so that the branch costs one comparison a vector. The results
// are exact enough for float32, or for Out.
template <int V, class Out = float>
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
      FT_EACH(sizeof(Out) < sizeof(float) ? gelu_for_halves(x) : 0.5f * x * (1 + erff(x * 0.70710678118654752f)));
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
