// How far attention on a GPU may be from the reference.
#pragma once

#include "gpu/compare.h"

namespace ft::test {

// Scores reach 10 and values 4: in float32 a score's last bits turn a weight by 1e-6 of itself, on both sides. The
// weights of 16-bit types are rounded once more, to multiply the values.
inline constexpr bounds attention_bounds{{1e-5, 1e-5}, {2e-3, 0x1p-10}, {1.6e-2, 0x1p-7}};

}  // namespace ft::test
