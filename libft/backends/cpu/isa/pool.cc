// pool: a row's tokens are folded into the output, which stays in the cache meanwhile.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {
namespace {

// out = x_0 ⊕ x_1 ⊕ ..., with ⊕ the sum or the maximum.
FT_INLINE void fold_tokens(const tensor& x, int64_t begin, int64_t end, pool_kind kind, float* out) {
  for_vectors(x.shape[1], [&](int64_t i, auto count) {
    const float* at = x.as<float>() + begin * x.stride[0] + i;
    vec value = load(at, count);
    for (int64_t t = begin + 1; t < end; ++t) {
      at += x.stride[0];
      value = kind == pool_kind::max ? max(value, load(at, count)) : value + load(at, count);
    }
    if (kind == pool_kind::mean) value /= static_cast<float>(end - begin);
    store(out + i, value, count);
  });
}

void normalise(float* out, int64_t width) {
  double squares = 0;
  for (int64_t i = 0; i < width; ++i) squares += double{out[i]} * out[i];
  const float scale = static_cast<float>(1 / std::max(std::sqrt(squares), 1e-12));
  for_vectors(width, [&](int64_t i, auto count) { store(out + i, load(out + i, count) * scale, count); });
}

}  // namespace

void pool(exec& ex, const pool_args& a) {
  const int64_t rows = a.out.shape[0], width = a.out.shape[1];
  const int32_t* offsets = a.row_offsets.as<int32_t>();
  share(ex, rows, a.x.shape[0] / std::max<int64_t>(1, rows) * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = a.out.as<float>() + r * a.out.stride[0];
      int64_t first = offsets[r], last = offsets[r + 1];
      if (a.kind == pool_kind::first) last = first + 1;
      if (a.kind == pool_kind::last) first = last - 1;
      fold_tokens(a.x, first, last, a.kind, out);
      if (a.normalize) normalise(out, width);
    }
  });
}

}  // namespace ft::cpu::FT_ISA
