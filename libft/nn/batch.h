// What one side of a model reads, and the ragged batch: what one step computes of it, whatever mix of prompts, single
// tokens and whole sequences it is. Tokens of all rows lie one after another; there is no padding.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"
#include "ops/attention.h"
#include "ops/kv_cache.h"

namespace ft::nn {

// Consecutive tokens whose embeddings are given: rows [n, width], float32, float16 or bfloat16.
struct embedded_rows {
  int64_t first_token = 0;
  tensor rows;
};

// Of an encoder and a decoder alike: token ids, of which some or all may be replaced by embeddings, or pixels.
struct inputs {
  int64_t num_tokens = 0;

  // On the device, i32.
  tensor token_ids;       // [num_tokens]; a decoder's may be among the chosen ones
  tensor chosen;          // what earlier steps chose (ops/embedding.h); null: nothing
  tensor positions;       // [num_tokens], from 0 within a sequence
  tensor token_type_ids;  // [num_tokens]; null when the model has none

  std::span<const embedded_rows> embedded;  // in place of what token_ids would give

  tensor pixels;  // [images, channels, height, width] floats, of which a vision tower makes the tokens; null: none
};

struct ragged_batch : inputs {
  int64_t num_rows = 0;
  tensor row_offsets;  // [num_rows + 1] i32

  // Decoders only: where keys and values go and come from. `cache` has one entry a layer of this rank.
  tensor slots;                                  // [num_tokens]
  tensor page_table;                             // [num_rows, max_pages]
  tensor context_lengths;                        // [num_rows]
  const std::vector<kv_pages>* cache = nullptr;  // null: no cache, rows attend within themselves

  shared_keys shared;  // which rows begin with the same keys; empty where that is unknown

  // Encoder-decoders only: what the rows' cross-attention reads. With a cache that is pages of it, which rows may
  // share; else the encoder's states, of which row r attends to those from encoder_row_offsets[r] to [r + 1].
  tensor cross_page_table;     // [num_rows, max_pages]
  tensor cross_lengths;        // [num_rows]
  shared_keys cross_shared;    // as `shared`, of the source
  tensor encoder_states;       // [encoder tokens, hidden_size], activations
  tensor encoder_row_offsets;  // [num_rows + 1]
};

}  // namespace ft::nn
