// Packed weights on the CPU. Each kernel family (dense panels, quantised panels, the reference's plain rows) derives
// its own layout; `linear` and `embedding` reach it through the two members below and know no layout.
#pragma once

#include <span>

#include "ops/linear.h"

namespace ft::cpu {

class cpu_packed_weight : public packed_weight {
 public:
  // Writes row `row` (one output feature), widened to f32, to out[0 .. in_features). Thread-safe.
  virtual void unpack_row(int64_t row, float* out) const = 0;

  // The linear operation with this weight; args.weight is this object and the shapes have been checked.
  virtual void multiply(exec& ex, const linear_args& args) const = 0;
};

inline const cpu_packed_weight& on_cpu(const packed_weight& weight) {
  return static_cast<const cpu_packed_weight&>(weight);
}

// Plain f32, f16 and bf16 parts go together in any mix; GGUF-quantised ones only with their own type. All must have
// the same number of columns.
bool can_pack_together(std::span<const tensor> parts);

// Throws ft::error unless the parts can be packed together.
void check_parts(std::span<const tensor> parts);

inline int64_t total_rows(std::span<const tensor> parts) {
  int64_t rows = 0;
  for (const tensor& part : parts) rows += part.dim(0);
  return rows;
}

}  // namespace ft::cpu
