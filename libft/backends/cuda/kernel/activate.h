// The activation functions on the device, in float32; epilogues of matrix products use them too.
#pragma once

#include "backends/cuda/kernel/vector.h"
#include "ops/activation.h"

namespace ft::cuda {

// max(x, 0), and NaN of NaN.
__device__ inline float positive_part(float x) {
#if __CUDA_ARCH__ >= 800
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
#else
  return x < 0 ? 0 : x;
#endif
}

// x Φ(x) = max(x, 0) - |x| Φ(-|x|) for results that are rounded to 16 bits. log2 Φ(-z) is nearly a parabola: this
// polynomial, fitted over 0 to 6 so that the largest error of a result in units of float16's last place is least, is
// within 1.1e-5, and a result within 9e-7 and a tenth of such a unit. Erff takes four times the instructions; those,
// not memory, would set the speed of a pass over halves. Beyond 6 the second term is less than 6e-9.
__device__ inline float gelu_for_halves(float x) {
  const float z = fminf(fabsf(x), 6.f);
  float log2_tail = fmaf(3.2444936e-05f, z, -7.4842240e-04f);
  log2_tail = fmaf(log2_tail, z, 7.9422714e-03f);
  log2_tail = fmaf(log2_tail, z, -5.3051800e-02f);
  log2_tail = fmaf(log2_tail, z, -4.5917049e-01f);
  log2_tail = fmaf(log2_tail, z, -1.1510366f);
  log2_tail = fmaf(log2_tail, z, -1.0000076f);
  return fmaf(-z, exp2_of(log2_tail), positive_part(x));
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
      FT_EACH(positive_part(x));
    case activation_kind::gelu:
      FT_EACH(sizeof(Out) < sizeof(float) ? gelu_for_halves(x) : 0.5f * x * (1 + erff(x * 0.70710678118654752f)));
    case activation_kind::gelu_tanh:  // 0.5 x (1 + tanh u) = x σ(2 u): no cancellation where tanh u is near -1
      FT_EACH(x * reciprocal_of(1 + exp2_of(-2.3022081983f * (x + 0.044715f * x * x * x))));
    case activation_kind::silu:
      FT_EACH(x * reciprocal_of(1 + exp2_of(-1.4426950408889634f * x)));
    case activation_kind::tanh:
      FT_EACH(tanhf(x));
  }
#undef FT_EACH
}

}  // namespace ft::cuda
