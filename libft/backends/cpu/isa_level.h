// Which instruction set the CPU's kernels use: the best one the processor has, or a lower one that the environment
// variable FT_CPU_ISA names ("reference", "portable", "avx2", "avx512", "avx512_bf16").
#pragma once

#include <string_view>
#include <vector>

namespace ft::cpu {

enum class isa_level { reference, portable, avx2, avx512, avx512_bf16 };

std::string_view name(isa_level level);

// Levels that this processor and this build have, lowest first; `reference` is always there.
const std::vector<isa_level>& available_levels();

// The level in use, read once. Throws ft::error (FT_ERROR_INVALID_ARGUMENT, or FT_ERROR_UNSUPPORTED for a level that
// this processor lacks) naming FT_CPU_ISA and the levels there are.
isa_level active_level();

}  // namespace ft::cpu
