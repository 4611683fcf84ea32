// The oracle for embedding.
#include <algorithm>

#include "backends/cpu/packed.h"
#include "backends/cpu/ref/ref_ops.h"
#include "core/half.h"

namespace ft::cpu::ref {
namespace {

template <class T>
void widen_row(const tensor& table, int64_t row, float* to) {
  for (int64_t i = 0; i < table.shape[1]; ++i) to[i] = to_float(table.as<T>()[row * table.stride[0] + i]);
}

void read_row(const embedding_args& a, int64_t row, float* to) {
  if (a.packed) return on_cpu(*a.packed).unpack_row(row, to);
  if (a.table.type == dtype::f16) return widen_row<f16>(a.table, row, to);
  if (a.table.type == dtype::bf16) return widen_row<bf16>(a.table, row, to);
  widen_row<float>(a.table, row, to);
}

}  // namespace

void embedding(exec& ex, const embedding_args& a) {
  const int64_t width = a.out.shape[1], rows = a.packed ? a.packed->out_features : a.table.shape[0];
  arena::scope scope(ex.scratch);
  float* row = ex.scratch.make<float>(width);
  for (int64_t t = 0; t < a.out.shape[0]; ++t) {
    float* out = a.out.as<float>() + t * a.out.stride[0];
    int32_t id = a.ids.as<int32_t>()[t];
    if (id < 0) id = std::max(0, a.chosen.as<int32_t>()[-1 - id]);
    const int64_t at = id - a.first_row;
    if (0 <= at && at < rows)
      read_row(a, at, row);
    else
      std::fill_n(row, width, 0.0f);
    for (int64_t i = 0; i < width; ++i) out[i] = a.scale * row[i] + (a.accumulate ? out[i] : 0.0f);
  }
}

}  // namespace ft::cpu::ref
