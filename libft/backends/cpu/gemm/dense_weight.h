// A weight of floats or of int8 with a scale a row, laid out once when a model is loaded: panels of panel_width output
// features, each [k / group][panel_width][group] as dots.h describes, the last one padded with zeros to its full width.
#pragma once

#include <algorithm>

#include "backends/cpu/gemm/activations.h"
#include "backends/cpu/packed.h"

namespace ft::cpu::FT_ISA {

template <class D>
class dense_weight final : public cpu_packed_weight {
 public:
  using layout = layout_of<D>;

  dense_weight(std::span<const stored_weight> parts, const weight_format& made, memory& from);

  void unpack_row(int64_t row, float* out) const override;
  void multiply(exec& ex, const linear_args& args) const override;  // linear.cc

  int64_t num_panels() const { return (out_features + panel_width - 1) / panel_width; }
  size_t panel_bytes() const { return static_cast<size_t>(layout::units(in_features)) * layout::step_bytes; }
  const char* panel(int64_t i) const { return panels_.as<const char>() + static_cast<size_t>(i) * panel_bytes(); }

  // int8 only, [num_panels * panel_width]: the scale of each output feature, and what its sum starts from so that the
  // offset of the activations cancels.
  const float* scales() const { return scales_.as<const float>(); }
  const int32_t* corrections() const { return corrections_.as<const int32_t>(); }

 private:
  void pack_part(const stored_weight& stored, int64_t row);
  void set_corrections();

  buffer panels_, scales_, corrections_;
};

}  // namespace ft::cpu::FT_ISA
