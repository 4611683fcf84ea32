// embedding: rows of a plain table are widened on the way; a packed weight knows how to unpack a row of its own.
#include <algorithm>
#include <cstring>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"
#include "backends/cpu/packed.h"

namespace ft::cpu::FT_ISA {
namespace {

// The token's row of the table; -1: another rank has it.
int64_t row_of(const embedding_args& a, int64_t token, int64_t rows) {
  int32_t id = a.ids.as<int32_t>()[token];
  if (id < 0) id = std::max(0, a.chosen.as<int32_t>()[-1 - id]);
  const int64_t row = id - a.first_row;
  return row < rows ? row : -1;
}

template <class T>
FT_INLINE void put_row(const embedding_args& a, const T* from, float* out) {
  for_vectors(a.out.shape[1], [&](int64_t i, auto count) {
    const vec row = load(from + i, count) * a.scale;
    store(out + i, a.accumulate ? row + load(out + i, count) : row, count);
  });
}

FT_INLINE void put_nothing(const embedding_args& a, float* out) {
  if (!a.accumulate) std::memset(out, 0, static_cast<size_t>(a.out.shape[1]) * sizeof(float));
}

template <class T>
void from_table(exec& ex, const embedding_args& a) {
  share(ex, a.out.shape[0], a.out.shape[1], [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = row_of(a, t, a.table.shape[0]);
      float* out = a.out.as<float>() + t * a.out.stride[0];
      row < 0 ? put_nothing(a, out) : put_row(a, a.table.as<T>() + row * a.table.stride[0], out);
    }
  });
}

void from_packed(exec& ex, const embedding_args& a) {
  const int64_t width = a.out.shape[1];
  const cpu_packed_weight& table = on_cpu(*a.packed);
  arena::scope scope(ex.scratch);
  float* rows = ex.scratch.make<float>(threads_of(ex) * width);
  share(ex, a.out.shape[0], 4 * width, [&](int64_t begin, int64_t end, int worker) {
    float* unpacked = rows + worker * width;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = row_of(a, t, table.out_features);
      float* out = a.out.as<float>() + t * a.out.stride[0];
      if (row < 0) {
        put_nothing(a, out);
        continue;
      }
      table.unpack_row(row, unpacked);
      put_row(a, unpacked, out);
    }
  });
}

}  // namespace

void embedding(exec& ex, const embedding_args& a) {
  if (a.packed) return from_packed(ex, a);
  if (a.table.type == dtype::f16) return from_table<f16>(ex, a);
  if (a.table.type == dtype::bf16) return from_table<bf16>(ex, a);
  from_table<float>(ex, a);
}

}  // namespace ft::cpu::FT_ISA
