// Scaled dot-product attention (arXiv:1706.03762) with grouped queries (arXiv:2305.13245) over ragged rows.
//
//   out[t, h] = Σ_j softmax_j(mask(softcap(scale · query[t, h] · key[j, g]))) value[j, g],  g = h / (heads / kv_heads)
//
//   query  [tokens, num_heads, head_dim] f32, the last axis dense
//   out    [tokens, num_heads, head_dim] f32, contiguous
//   row_offsets  [rows + 1] i32: row r holds tokens row_offsets[r] .. row_offsets[r + 1]
//
// attention: keys and values are the step's own, [tokens, num_kv_heads, head_dim] f32; a row attends within itself.
// paged_attention: keys and values come from pages; the queries of row r are the last of its context_lengths[r]
//   tokens, whose pages are page_table[r, 0 ..]; always causal. kv_write has stored the step's own before.
//
// A query's result is the same to the bit however its row was cut into steps and whatever its neighbours.
#pragma once

#include "ops/exec.h"
#include "ops/kv_cache.h"

namespace ft {

struct attention_options {
  float scale = 1;
  float softcap = 0;   // s -> softcap * tanh(s / softcap); 0: none (Gemma 2, arXiv:2408.00118)
  int64_t window = 0;  // a query at position p sees keys p - window < j; 0: all (Mistral, arXiv:2310.06825)
};

struct attention_args {
  tensor out;
  tensor query;
  tensor key;
  tensor value;
  tensor row_offsets;
  bool causal = false;
  attention_options options;
};

struct paged_attention_args {
  tensor out;
  tensor query;
  kv_pages pages;
  tensor page_table;       // [rows, max_pages] i32
  tensor row_offsets;      // [rows + 1] i32
  tensor context_lengths;  // [rows] i32, the step's own tokens included
  attention_options options;
};

namespace ops {
void attention(exec&, const attention_args&);
void paged_attention(exec&, const paged_attention_args&);
}  // namespace ops

}  // namespace ft
