// `linear` and the packing of weights at this instruction-set level: the choice of a layout, and the end of a tile.
#include "backends/cpu/gemm/dense_weight.h"
#include "backends/cpu/gemm/quantised.h"
#include "backends/cpu/gemm/tile.h"
#include "backends/cpu/isa/isa_ops.h"

namespace ft::cpu::FT_ISA {

extern template class dense_weight<f32_dot>;
extern template class dense_weight<f16_dot>;
extern template class dense_weight<bf16_dot>;
extern template class dense_weight<i8_dot>;

std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from) {
  check_parts(parts, made);
  switch (made.kind) {
    case weight_kind::gguf_blocks:
      return pack_quantised(parts, from);
    case weight_kind::int8_rows:
      return std::make_unique<dense_weight<i8_dot>>(parts, made, from);
    case weight_kind::dense:
      break;
  }
  if (made.data == dtype::f16) return std::make_unique<dense_weight<f16_dot>>(parts, made, from);
  if (made.data == dtype::bf16) return std::make_unique<dense_weight<bf16_dot>>(parts, made, from);
  return std::make_unique<dense_weight<f32_dot>>(parts, made, from);
}

void linear(exec& ex, const linear_args& args) { on_cpu(*args.weight).multiply(ex, args); }

void finish_tile(const tile_job& job, int rows, int width) {
  const epilogue& e = *job.end;
  with_activation(e.activation, [&](auto kind) {
    for (int r = 0; r < rows; ++r) {
      const float* sums = job.sums + r * width;
      const int64_t row = job.row + r;
      for_vectors(job.columns, [&](int64_t i, auto count) {
        vec y = load(sums + i);
        if (e.bias) y += load(e.bias + job.column + i, count);
        y = activate<decltype(kind)::value>(y);
        if (e.residual) y += load(e.residual + row * e.residual_stride + job.column + i, count);
        store(e.out + row * e.out_stride + job.column + i, y, count);
      });
    }
  });
}

}  // namespace ft::cpu::FT_ISA
