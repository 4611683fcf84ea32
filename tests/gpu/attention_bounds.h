// How far attention on a GPU may be from the reference.
#pragma once

#include "gpu/compare.h"

namespace ft::test {

// The weights of 16-bit types are rounded once more, to multiply the values, which reach 4.
inline constexpr bounds attention_bounds{{6e-6, 6e-6}, {2e-3, 0x1p-10}, {1.6e-2, 0x1p-7}};

}  // namespace ft::test
