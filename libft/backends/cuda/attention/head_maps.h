// Descriptions of queries, keys and values for the copies of whole tiles that GPUs of compute capability 9.0 have.
#pragma once

#include <cuda.h>

#include "backends/cuda/attention/problem.h"

namespace ft::cuda {

// Columns of a panel of a tile: 128 bytes of a 16-bit type.
inline constexpr int panel_columns_16 = 64;

// Keys or values in pages come in boxes of this many tokens.
inline constexpr int page_box_tokens = 16;

// Whether tiles of the problem's queries, keys and values can be copied so.
bool tiles_can_be_copied(const attention_problem&);

// Boxes of 64 columns, one head and `tokens` tokens: (column, head, token) of the queries, and of keys and values that
// are not in pages.
CUtensorMap map_of_queries(const attention_problem&, int tokens);
CUtensorMap map_of_keys(const attention_problem&, int tokens);
CUtensorMap map_of_values(const attention_problem&, int tokens);

// Boxes of 64 columns and page_box_tokens tokens: (column, token in the page, page * kv_heads + head).
CUtensorMap map_of_pages(const attention_problem&, const void* pool);

}  // namespace ft::cuda
