// Self-attention from hidden states to hidden states: projections, rotary positions, the cache, the attention itself.
#pragma once

#include "nn/batch.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/run.h"
#include "ops/attention.h"
#include "ops/rotary.h"

namespace ft::nn {

struct attention {
  linear query_key_value;  // [query heads | key heads | value heads], each head_dim wide
  linear output;
  norm query_norm;  // of each head, before the rotation (Qwen3, Gemma 3); null: none
  norm key_norm;
  int64_t num_heads = 0;     // this rank's; its output is a part of the ranks' sum
  int64_t num_kv_heads = 0;  // this rank's
  int64_t head_dim = 0;
  bool causal = false;
  attention_options options;

  // Where this layer's tokens stand, and where its keys and values are kept.
  struct context {
    tensor rotary_table;  // null: no rotation
    rotary_style style = rotary_style::half;
    const kv_pages* cache = nullptr;  // null: rows attend within themselves
  };

  // out = output(attend(x)) + residual; x, out, residual [tokens, hidden_size]; residual may be null or `out`.
  void forward(run& run, const ragged_batch& batch, const context& context, const tensor& x, const tensor& out,
               const tensor& residual = {}) const;
};

}  // namespace ft::nn
