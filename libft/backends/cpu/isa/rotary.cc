// rotary_table and rotary.
#include <cmath>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {
namespace {

// One head: (x_i, x_{i+n}) is turned by the table's angle i.
FT_INLINE void turn_halves(float* x, const float* table, int64_t n) {
  for_vectors(n, [&](int64_t i, auto count) {
    const vec cosine = load(table + i, count), sine = load(table + n + i, count);
    const vec u = load(x + i, count), v = load(x + n + i, count);
    store(x + i, u * cosine - v * sine, count);
    store(x + n + i, v * cosine + u * sine, count);
  });
}

// One head: (x_{2i}, x_{2i+1}); the compiler finds the shuffles.
FT_INLINE void turn_pairs(float* __restrict x, const float* __restrict table, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float u = x[2 * i], v = x[2 * i + 1];
    x[2 * i] = u * table[i] - v * table[n + i];
    x[2 * i + 1] = v * table[i] + u * table[n + i];
  }
}

}  // namespace

// Sines come from the C library, whose argument reduction is right at any position; a step asks for few of them.
void rotary_table(exec& ex, const rotary_table_args& a) {
  const int64_t n = a.table.shape[1] / 2;
  share(ex, a.table.shape[0], 64 * n, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float position = static_cast<float>(a.positions.as<int32_t>()[t]);
      float* table = a.table.as<float>() + t * 2 * n;
      for (int64_t i = 0; i < n; ++i) {
        const float angle = position * a.inverse_frequency[i];
        table[i] = a.attention_factor * std::cos(angle);
        table[n + i] = a.attention_factor * std::sin(angle);
      }
    }
  });
}

void rotary(exec& ex, const rotary_args& a) {
  const int64_t n = a.table.shape[1] / 2, heads = a.x.shape[1];
  share(ex, a.x.shape[0], 2 * heads * n, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* table = a.table.as<float>() + t * 2 * n;
      for (int64_t h = 0; h < heads; ++h) {
        float* x = a.x.as<float>() + t * a.x.stride[0] + h * a.x.stride[1];
        if (a.style == rotary_style::half)
          turn_halves(x, table, n);
        else
          turn_pairs(x, table, n);
      }
    }
  });
}

}  // namespace ft::cpu::FT_ISA
