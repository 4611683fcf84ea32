// How kernels share work out: enough of it at a time that a hand-over to other threads pays, so that the small
// operations of a decode step stay on the calling thread.
#pragma once

#include <algorithm>

#include "ops/exec.h"

namespace ft::cpu::FT_ISA {

// Elements of plain arithmetic that are worth a hand-over, which takes about a microsecond: some three of work.
inline constexpr int64_t worthwhile = 32768;

inline int threads_of(const exec& ex) { return ex.pool ? ex.pool->size() : 1; }

// body(begin, end, worker) over [0, items), where an item costs about as much as `cost` elements of plain arithmetic.
template <class Body>
void share(exec& ex, int64_t items, int64_t cost, Body&& body) {
  if (items <= 0) return;
  if (!ex.pool) return body(int64_t{0}, items, 0);
  ex.pool->parallel_for(items, std::max<int64_t>(1, worthwhile / std::max<int64_t>(1, cost)), body);
}

// body(row, column, n) over a matrix, in pieces of rows: for elementwise work, where an element costs `cost`.
template <class Body>
void share_elements(exec& ex, int64_t rows, int64_t width, int64_t cost, Body&& body) {
  constexpr int64_t piece = 4096;
  const int64_t pieces = (width + piece - 1) / piece;
  share(ex, rows * pieces, std::min(width, piece) * cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i % pieces * piece;
      body(i / pieces, column, std::min(piece, width - column));
    }
  });
}

}  // namespace ft::cpu::FT_ISA
