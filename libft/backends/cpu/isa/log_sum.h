// The largest element of a row, divided by a temperature, and the logarithm of its sum of exponentials, as log_softmax
// and top_k take them: two sweeps in a vector's lanes.
//
// Included only by files that are compiled once per level.
#pragma once

#include <cmath>

#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {

// A partial vector's missing lanes must neither be the maximum nor add to the sum.
template <class Count>
FT_INLINE vec load_or_nothing(const float* x, Count count) {
  if constexpr (std::is_same_v<Count, int>)
    return iota() < count ? load(x, count) : broadcast(-INFINITY);
  else
    return load(x, count);
}

struct log_sum {
  float largest;
  float log;  // of Σ exp(x / temperature - largest)
};

FT_INLINE log_sum log_sum_of(const float* x, int64_t width, float temperature = 1) {
  vec largest = broadcast(-INFINITY), sum = zero();
  for_vectors(width, [&](int64_t i, auto n) { largest = max(largest, load_or_nothing(x + i, n)); });
  const float shift = max(largest) / temperature;
  for_vectors(width, [&](int64_t i, auto n) { sum += exp(load_or_nothing(x + i, n) / temperature - shift); });
  return {shift, std::log(FT_ISA::sum(sum))};
}

}  // namespace ft::cpu::FT_ISA
