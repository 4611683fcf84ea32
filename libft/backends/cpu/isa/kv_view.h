// Where the keys and values of one sequence and one kv head lie, in pages or packed: keys as [head_dim][page_tokens],
// values as [page_tokens][head_dim] (backends/cpu/kernels.h), and how to write keys that way.
#pragma once

#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {

// Vectors hold keys of consecutive tokens, so pages must hold whole vectors at every level.
inline constexpr int64_t page_granule = 16;

template <class T>
struct kv_view {
  const T* keys;  // page 0, this head
  const T* values;
  const int32_t* table;  // page numbers; null: pages lie one after another
  int64_t page_stride;   // elements from one page to the next
  int64_t page_tokens;   // a multiple of page_granule
  int64_t head_dim;

  int64_t page(int64_t token) const {
    const int64_t i = page_tokens == page_granule ? token / page_granule : token / page_tokens;
    return page_stride * (table ? table[i] : i);
  }
  int64_t within(int64_t token) const {
    return page_tokens == page_granule ? token % page_granule : token % page_tokens;
  }
  const T* key(int64_t token) const { return keys + page(token) + within(token); }
  const T* value(int64_t token) const { return values + page(token) + within(token) * head_dim; }
};

// Stores the keys of `tokens` <= lanes consecutive tokens as columns of a page, at its column `to`; with fewer tokens
// the columns beyond are zeroed.
template <class T>
FT_INLINE void write_key_columns(const float* key, int64_t key_stride, int64_t tokens, int64_t head_dim, T* to,
                                 int64_t page_tokens) {
  for_vectors(head_dim, [&](int64_t i, auto count) {
    vec rows[lanes];
    for (int t = 0; t < lanes; ++t) rows[t] = t < tokens ? load(key + t * key_stride + i, count) : zero();
    transpose(rows);
    int n = lanes;
    if constexpr (std::is_same_v<decltype(count), int>) n = count;
    for (int d = 0; d < n; ++d) store(to + (i + d) * page_tokens, rows[d]);
  });
}

}  // namespace ft::cpu::FT_ISA
