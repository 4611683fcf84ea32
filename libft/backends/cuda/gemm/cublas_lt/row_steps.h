// Which numbers of rows share an algorithm of cuBLASLt. Ragged batches have any number: an algorithm of its own for
// each would be chosen anew in most passes.
#pragma once

#include <bit>
#include <cstdint>

namespace ft::cuda {

// The number of rows that the algorithm for `rows` is chosen for: itself up to 128, beyond that the next of sixteen
// even steps from one power of two to the next, at most 6 % more.
constexpr int64_t rows_of_step(int64_t rows) {
  constexpr int64_t exact = 128, steps = 16;
  if (rows <= exact) return rows;
  const auto below = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows - 1)));
  const int64_t step = below / steps;
  return (rows + step - 1) / step * step;
}

}  // namespace ft::cuda
