// The oracle for `linear`: weights kept as rows in their dtype, each output accumulated in double precision.
//
// int8 is dynamic quantisation (arXiv:1712.05877, section 2, with zero points of zero): each weight row and each row of
// x is scaled so that its largest magnitude is 127 and rounded; the integer sum is exact. The scales are computed as
// the fast kernels do, so that all levels agree to the rounding of the last multiplication.
#include "backends/cpu/ref/linear.h"

#include <cmath>
#include <cstring>

#include "backends/cpu/packed.h"
#include "backends/cpu/ref/ref_ops.h"
#include "core/half.h"
#include "ops/gguf_blocks.h"

namespace ft::cpu::ref {
namespace {

// A row too small for 1 / scale to be finite counts as zeros; infinities and NaNs make the scale NaN.
struct row_scale {
  float scale;
  float inverse;
};

row_scale scale_of(const float* x, int64_t n) {
  float largest = 0, poison = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::fmax(largest, std::fabs(x[i]));
    poison += x[i] * 0;
  }
  return {largest / 127 + poison, largest > 0x1p-100f && poison == 0 ? 127 / largest : 0};
}

int8_t quantised(float x, float inverse_scale) {
  return inverse_scale == 0 ? 0 : static_cast<int8_t>(std::nearbyint(x * inverse_scale));
}

// Rows one after another, as the format lays them out.
class rows_weight final : public cpu_packed_weight {
 public:
  rows_weight(std::span<const stored_weight> parts, const weight_format& made, memory& from)
      : cpu_packed_weight(made, total_rows(parts), parts[0].columns()),
        memory_(from, bytes_of(made, out_features, in_features)),
        rows_(laid_out(made, memory_.data(), out_features, in_features)) {
    bytes = memory_.bytes();
    const buffer widened(host_memory(), sizeof(float) * static_cast<size_t>(in_features));
    int64_t row = 0;
    for (const stored_weight& part : parts) {
      for (int64_t i = 0; i < part.rows(); ++i) store_row(part, i, row + i, widened.as<float>());
      row += part.rows();
    }
  }

  void unpack_row(int64_t row, float* out) const override { rows_.expand(row, out); }
  void multiply(exec& ex, const linear_args& args) const override;

 private:
  void store_row(const stored_weight& part, int64_t from, int64_t row, float* widened) const;

  buffer memory_;
  stored_weight rows_;
};

void rows_weight::store_row(const stored_weight& part, int64_t from, int64_t row, float* widened) const {
  if (format.kind == weight_kind::gguf_blocks) return copy_part(part.slice(0, from, from + 1), rows_, row, 0);
  part.expand(from, widened);
  char* to = rows_.data.as<char>() + bytes_of(type(), row * in_features);
  if (type() == dtype::i8) {
    const row_scale s = scale_of(widened, in_features);
    for (int64_t k = 0; k < in_features; ++k) to[k] = quantised(widened[k], s.inverse);
    rows_.scales.as<float>()[row] = s.scale;
    return;
  }
  for (int64_t k = 0; k < in_features; ++k) {
    if (type() == dtype::f32) std::memcpy(to + 4 * k, &widened[k], 4);
    const uint16_t half = type() == dtype::f16 ? f32_to_f16(widened[k]) : f32_to_bf16(widened[k]);
    if (type() != dtype::f32) std::memcpy(to + 2 * k, &half, 2);
  }
}

void rows_weight::multiply(exec& ex, const linear_args& a) const {
  const int64_t rows = a.x.dim(0), width = in_features;
  arena::scope scope(ex.scratch);
  const int threads = ex.pool ? ex.pool->size() : 1;
  float* weights = ex.scratch.make<float>(threads * width);
  float* x = ex.scratch.make<float>(rows * width);  // for int8, what its integers stand for
  float* x_scale = ex.scratch.make<float>(rows);
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(x + r * width, a.x.as<float>() + r * a.x.stride[0], sizeof(float) * static_cast<size_t>(width));
    x_scale[r] = 1;
    if (type() != dtype::i8) continue;
    const row_scale s = scale_of(x + r * width, width);
    for (int64_t k = 0; k < width; ++k) x[r * width + k] = quantised(x[r * width + k], s.inverse);
    x_scale[r] = s.scale;
  }
  const float* bias = values_of(a.bias);
  const auto columns = [&](int64_t begin, int64_t end, int worker) {
    float* w = weights + worker * width;
    for (int64_t n = begin; n < end; ++n) {
      unpack_row(n, w);
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (int64_t k = 0; k < width; ++k) sum += double{x[r * width + k]} * w[k];
        double y = activate(a.activation, sum * x_scale[r] + (bias ? bias[n] : 0));
        if (a.residual) y += a.residual.as<float>()[r * a.residual.stride[0] + n];
        a.out.as<float>()[r * a.out.stride[0] + n] = static_cast<float>(y);
      }
    }
  };
  if (ex.pool)
    ex.pool->parallel_for(out_features, 8, columns);
  else
    columns(0, out_features, 0);
}

}  // namespace

std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from) {
  check_parts(parts, made);
  return std::make_unique<rows_weight>(parts, made, from);
}

void linear(exec& ex, const linear_args& args) { on_cpu(*args.weight).multiply(ex, args); }

}  // namespace ft::cpu::ref
