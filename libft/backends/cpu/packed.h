// Packed weights on the CPU. Each kernel family (dense panels, quantised panels, the reference's plain rows) derives
// its own layout; `linear` and `embedding` reach it through the two members below and know no layout.
#pragma once

#include <algorithm>
#include <span>

#include "ops/linear.h"

namespace ft::cpu {

class cpu_packed_weight : public packed_weight {
 public:
  using packed_weight::packed_weight;

  // Writes row `row` (one output feature), widened to f32, to out[0 .. in_features). Thread-safe.
  virtual void unpack_row(int64_t row, float* out) const = 0;

  // The linear operation with this weight; args.weight is this object and the shapes have been checked.
  virtual void multiply(exec& ex, const linear_args& args) const = 0;
};

inline const cpu_packed_weight& on_cpu(const packed_weight& weight) {
  return static_cast<const cpu_packed_weight&>(weight);
}

// Throws ft::error unless the parts, of one width, can become one weight of the format `made`.
void check_parts(std::span<const stored_weight> parts, const weight_format& made);

inline int64_t total_rows(std::span<const stored_weight> parts) {
  int64_t rows = 0;
  for (const stored_weight& part : parts) rows += part.rows();
  return rows;
}

class cpu_bias final : public packed_bias {
 public:
  explicit cpu_bias(std::span<const float> given, memory& from = host_memory())
      : packed_bias(static_cast<int64_t>(given.size())), memory_(from, given.size_bytes()) {
    std::copy(given.begin(), given.end(), memory_.as<float>());
    bytes = memory_.bytes();
  }
  const float* values() const { return memory_.as<const float>(); }

 private:
  buffer memory_;
};

// The values of a bias, which may be null.
inline const float* values_of(const packed_bias* bias) {
  return bias ? static_cast<const cpu_bias*>(bias)->values() : nullptr;
}

}  // namespace ft::cpu
