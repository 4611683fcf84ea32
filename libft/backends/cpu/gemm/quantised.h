// Products with GGUF-quantised weights, computed on the blocks themselves.
#pragma once

#include <memory>
#include <span>

#include "backends/cpu/packed.h"

namespace ft::cpu::FT_ISA {

// The parts, all of one quantised type and width, as one weight. It multiplies and unpacks itself (packed.h).
std::unique_ptr<packed_weight> pack_quantised(std::span<const stored_weight> parts, memory& from);

}  // namespace ft::cpu::FT_ISA
