// Scaled dot-product attention (arXiv:1706.03762) with grouped queries (arXiv:2305.13245) over ragged rows.
//
//   out[t, h] = Σ_j softmax_j(mask(softcap(scale · query[t, h] · key[j, g]) + bias[h, i, j])) value[j, g],
//   g = h / (heads / kv_heads), i the position of t in its row
//
//   query  [tokens, num_heads, head_dim], the last axis dense
//   out    [tokens, num_heads, head_dim], contiguous
//   row_offsets  [rows + 1] i32: row r holds tokens row_offsets[r] .. row_offsets[r + 1]
//
// attention: keys and values are [keys, num_kv_heads, head_dim]. A row attends within itself, or, given
//   key_row_offsets, to the keys key_row_offsets[r] .. key_row_offsets[r + 1], at least one, of another sequence.
// paged_attention: keys and values come from pages, page_table[r, 0 ..] for the context_lengths[r] keys of row r.
//   Causal: its queries are the last of those tokens, and kv_write has stored the step's own before. Not causal: the
//   keys, at least one, are another sequence's, and every query sees them all.
// paged_self_attention: rotary of the step's queries and keys, kv_write, and paged_attention, which a backend may do in
//   one pass. What the query and the key hold afterwards is undefined.
// Attention to another sequence (an encoder's) knows no positions: it has neither window nor bias.
//
// On the CPU a query's result is the same to the bit however its row was cut into steps and whatever its neighbours.
#pragma once

#include "ops/exec.h"
#include "ops/kv_cache.h"

namespace ft {

struct attention_options {
  float scale = 1;
  float softcap = 0;   // s -> softcap * tanh(s / softcap); 0: none (Gemma 2, arXiv:2408.00118)
  int64_t window = 0;  // a query at position p sees keys p - window < j; 0: all (Mistral, arXiv:2310.06825)

  // At most one of these biases by the distance of a key at position j from its query at i; none: null.
  const float* alibi_slopes = nullptr;  // [num_heads]: slope[h] * (j - i) (ALiBi, arXiv:2108.12409)
  tensor relative_bias;  // [num_heads, 2 * reach + 1] f32: relative_bias[h, clamp(j - i, ±reach) + reach]
                         // (T5, arXiv:1910.10683 section 2.1, its buckets laid out by distance)
};

struct attention_args {
  tensor out;
  tensor query;
  tensor key;
  tensor value;
  tensor row_offsets;
  tensor key_row_offsets;  // [rows + 1] i32; null: row_offsets
  bool causal = false;
  attention_options options;
};

// Rows of one query each that begin with the same pages, which a device may read once for all of them; it need not.
// Group g is rows offsets[g] .. offsets[g + 1]. The first lengths[g] keys of each lie in the same places; lengths[g] is
// a multiple of page_tokens, or the context length of all the group's rows, and, if causal, short of every query's own
// key.
struct shared_keys {
  tensor offsets;      // [groups + 1] i32; null: nothing is known to be shared
  tensor lengths;      // [groups] i32
  int64_t widest = 1;  // rows of the largest group
};

struct paged_attention_args {
  tensor out;
  tensor query;
  kv_pages pages;
  tensor page_table;       // [rows, max_pages] i32
  tensor row_offsets;      // [rows + 1] i32
  tensor context_lengths;  // [rows] i32, the step's own tokens included when causal
  bool causal = true;
  attention_options options;
  shared_keys shared;
};

struct paged_self_attention_args {
  tensor rotary_table;  // [tokens, 2 n] f32, as rotary_table makes it; null: no rotation
  rotary_style style = rotary_style::half;
  kv_write_args keys;              // the step's own
  paged_attention_args attention;  // causal, over the pages of `keys`
};

namespace ops {
void attention(exec&, const attention_args&);
void paged_attention(exec&, const paged_attention_args&);
void paged_self_attention(exec&, const paged_self_attention_args&);
}  // namespace ops

}  // namespace ft
