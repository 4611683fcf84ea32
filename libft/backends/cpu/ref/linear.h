// The plain linear operation: weights kept as rows, products accumulated in double precision.
#pragma once

#include <memory>
#include <span>

#include "ops/linear.h"

namespace ft::cpu::ref {

std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from);
void linear(exec&, const linear_args&);

}  // namespace ft::cpu::ref
