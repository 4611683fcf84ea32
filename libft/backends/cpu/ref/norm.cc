// The oracle for norm.
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {
namespace {

// The rows of [rows, width] or [rows, heads, width], counted through.
struct row_list {
  explicit row_list(const tensor& t)
      : heads(t.rank == 3 ? t.shape[1] : 1), width(t.dim(-1)), count(t.shape[0] * heads) {}

  float* row(const tensor& t, int64_t i) const {
    return t.as<float>() + i / heads * t.stride[0] + (t.rank == 3 ? i % heads * t.stride[1] : 0);
  }

  int64_t heads, width, count;
};

}  // namespace

void norm(exec&, const norm_args& a) {
  const row_list rows(a.x);
  for (int64_t r = 0; r < rows.count; ++r) {
    const float* x = rows.row(a.x, r);
    const float* residual = a.residual ? rows.row(a.residual, r) : nullptr;
    float* out = rows.row(a.out, r);
    float* sum = a.sum ? rows.row(a.sum, r) : out;

    double total = 0;
    for (int64_t i = 0; i < rows.width; ++i) {
      sum[i] = residual ? x[i] + residual[i] : x[i];
      total += sum[i];
    }
    const double mean = a.kind == norm_kind::layer ? total / static_cast<double>(rows.width) : 0;
    double squares = 0;
    for (int64_t i = 0; i < rows.width; ++i) squares += (sum[i] - mean) * (sum[i] - mean);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(rows.width) + double{a.epsilon});
    for (int64_t i = 0; i < rows.width; ++i)
      out[i] = static_cast<float>((sum[i] - mean) * scale * (double{a.weight[i]} + double{a.weight_offset}) +
                                  (a.bias ? double{a.bias[i]} : 0));
  }
}

}  // namespace ft::cpu::ref
