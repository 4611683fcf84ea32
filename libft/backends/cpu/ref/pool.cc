// The oracle for pool.
#include <algorithm>
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {
namespace {

// One element of a row's pooled vector: x points at it in the row's first token.
double pooled(const float* x, int64_t stride, int64_t tokens, pool_kind kind) {
  if (kind == pool_kind::first) return x[0];
  if (kind == pool_kind::last) return x[(tokens - 1) * stride];
  double value = x[0];
  for (int64_t t = 1; t < tokens; ++t) {
    const double next = x[t * stride];
    value = kind == pool_kind::max ? std::max(value, next) : value + next;
  }
  return kind == pool_kind::mean ? value / static_cast<double>(tokens) : value;
}

}  // namespace

void pool(exec&, const pool_args& a) {
  const int32_t* offsets = a.row_offsets.as<int32_t>();
  for (int64_t r = 0; r < a.out.shape[0]; ++r) {
    float* out = a.out.as<float>() + r * a.out.stride[0];
    double squares = 0;
    for (int64_t i = 0; i < a.out.shape[1]; ++i) {
      const double value =
          pooled(a.x.as<float>() + offsets[r] * a.x.stride[0] + i, a.x.stride[0], offsets[r + 1] - offsets[r], a.kind);
      out[i] = static_cast<float>(value);
      squares += value * value;
    }
    if (!a.normalize) continue;
    for (int64_t i = 0; i < a.out.shape[1]; ++i)
      out[i] = static_cast<float>(out[i] / std::max(std::sqrt(squares), 1e-12));
  }
}

}  // namespace ft::cpu::ref
