// The operations that every instruction-set level provides with kernels of its own. isa/table.cc puts them into the
// level's op table; an operation that is missing here is served by the reference.
//
// Included only by files that are compiled once per level: FT_ISA is the level's name (cmake/isa_variants.cmake).
#pragma once

#include <memory>
#include <span>

#include "ops/op_table.h"

namespace ft::cpu::FT_ISA {

// gemm/
std::unique_ptr<packed_weight> pack(std::span<const tensor> parts, dtype compute);
void linear(exec&, const linear_args&);

}  // namespace ft::cpu::FT_ISA
