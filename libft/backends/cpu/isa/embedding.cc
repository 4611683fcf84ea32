// embedding: rows of a plain table are widened on the way; a packed weight knows how to unpack a row of its own.
#include <algorithm>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"
#include "backends/cpu/packed.h"

namespace ft::cpu::FT_ISA {
namespace {

int32_t id_of(const embedding_args& a, int64_t token) {
  const int32_t id = a.ids.as<int32_t>()[token];
  return id < 0 ? std::max(0, a.chosen.as<int32_t>()[-1 - id]) : id;
}

template <class T>
FT_INLINE void put_row(const embedding_args& a, const T* from, float* out) {
  for_vectors(a.out.shape[1], [&](int64_t i, auto count) {
    const vec row = load(from + i, count) * a.scale;
    store(out + i, a.accumulate ? row + load(out + i, count) : row, count);
  });
}

template <class T>
void from_table(exec& ex, const embedding_args& a) {
  share(ex, a.out.shape[0], a.out.shape[1], [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      put_row(a, a.table.as<T>() + id_of(a, t) * a.table.stride[0], a.out.as<float>() + t * a.out.stride[0]);
  });
}

void from_packed(exec& ex, const embedding_args& a) {
  const int64_t width = a.out.shape[1];
  const cpu_packed_weight& table = on_cpu(*a.packed);
  arena::scope scope(ex.scratch);
  float* rows = ex.scratch.make<float>(threads_of(ex) * width);
  share(ex, a.out.shape[0], 4 * width, [&](int64_t begin, int64_t end, int worker) {
    float* row = rows + worker * width;
    for (int64_t t = begin; t < end; ++t) {
      table.unpack_row(id_of(a, t), row);
      put_row(a, row, a.out.as<float>() + t * a.out.stride[0]);
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
