// Lets the tests reach the vectors of every level: simd_probe.cc is compiled once per level, as the kernels are.
#pragma once

#include <cstdint>

#include "built_levels.h"
#include "core/half.h"

namespace ft::test {

enum class function { exp, tanh, erf, sigmoid, gelu, gelu_tanh };

struct simd_probe {
  int lanes;
  void (*apply)(function f, const float* x, float* y, int64_t n);
  void (*widen_f16)(const f16* x, float* y, int64_t n);
  void (*widen_bf16)(const bf16* x, float* y, int64_t n);
  void (*narrow_f16)(const float* x, f16* y, int64_t n);
  void (*narrow_bf16)(const float* x, bf16* y, int64_t n);
  float (*sum)(const float* x);  // of `lanes` elements
  float (*max)(const float* x);
  void (*transpose)(const float* x, float* y);  // [lanes][lanes]
};

#define FT_DECLARE(level) \
  namespace level {       \
  simd_probe probe();     \
  }
FT_FOR_EACH_BUILT_LEVEL(FT_DECLARE)
#undef FT_DECLARE

}  // namespace ft::test
