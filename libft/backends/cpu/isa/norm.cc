// norm, a row at a time: the row stays in the first-level cache between the passes, so that memory is read once. The
// variance is taken about the mean in a pass of its own: one pass over sums of squares would cancel.
#include <cmath>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {
namespace {

// Σ f(i, count) over a row's vectors, in four partial sums; a lane beyond the row must be given as zero.
template <class Term>
FT_INLINE float total(int64_t width, Term&& term) {
  vec partial[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * lanes <= width; i += 4 * lanes)
    for (int p = 0; p < 4; ++p) partial[p] += term(i + p * lanes, whole_vector{});
  for (; i + lanes <= width; i += lanes) partial[0] += term(i, whole_vector{});
  if (i < width) partial[1] += term(i, static_cast<int>(width - i));
  return sum((partial[0] + partial[1]) + (partial[2] + partial[3]));
}

FT_INLINE vec first_lanes(vec x, whole_vector) { return x; }
FT_INLINE vec first_lanes(vec x, int n) { return iota() < n ? x : zero(); }

// One row: x (+ residual) is normalised into out. `row` holds the sum once the first pass has run.
struct row_norm {
  const norm_args& a;
  int64_t width;

  void operator()(const float* x, const float* residual, float* sum, float* out) const {
    const float* row = x;
    if (residual || sum) {
      float* to = sum ? sum : out;
      for_vectors(width, [&](int64_t i, auto n) {
        store(to + i, residual ? load(x + i, n) + load(residual + i, n) : load(x + i, n), n);
      });
      row = to;
    }
    const float n = static_cast<float>(width);
    const float mean =
        a.kind == norm_kind::layer ? total(width, [&](int64_t i, auto count) { return load(row + i, count); }) / n : 0;
    const float squares = total(width, [&](int64_t i, auto count) {
      const vec d = first_lanes(load(row + i, count) - mean, count);
      return d * d;
    });
    const float scale = 1 / std::sqrt(squares / n + a.epsilon);
    for_vectors(width, [&](int64_t i, auto count) {
      const vec weight = load(a.weight + i, count) + a.weight_offset;
      const vec bias = a.bias ? load(a.bias + i, count) : zero();
      store(out + i, fma((load(row + i, count) - mean) * scale, weight, bias), count);
    });
  }
};

}  // namespace

void norm(exec& ex, const norm_args& a) {
  const bool has_heads = a.x.rank == 3;
  const int64_t heads = has_heads ? a.x.shape[1] : 1, width = a.x.dim(-1);
  const auto row = [&](const tensor& t, int64_t i) -> float* {
    if (!t) return nullptr;
    if (!has_heads) return t.as<float>() + i * t.stride[0];
    return t.as<float>() + i / heads * t.stride[0] + i % heads * t.stride[1];
  };
  const row_norm normalise{a, width};
  share(ex, a.x.shape[0] * heads, 2 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) normalise(row(a.x, i), row(a.residual, i), row(a.sum, i), row(a.out, i));
  });
}

}  // namespace ft::cpu::FT_ISA
