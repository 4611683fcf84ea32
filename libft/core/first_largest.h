// The index of the largest element: the lowest of equal ones; NaNs are passed over, and where there is nothing else the
// index is -1. What the kernels of argmax and the choice of a token on the host have in common.
#pragma once

#include <cstdint>
#include <span>

namespace ft {

inline int32_t first_largest(std::span<const float> x) {
  int32_t best = -1;
  float largest = 0;
  for (size_t i = 0; i < x.size(); ++i)
    if (best < 0 ? x[i] == x[i] : x[i] > largest) {
      best = static_cast<int32_t>(i);
      largest = x[i];
    }
  return best;
}

}  // namespace ft
