// Attention of a decoder's rows to its encoder's states (arXiv:1706.03762 section 3.2.3).
#pragma once

#include "nn/batch.h"
#include "nn/linear.h"
#include "nn/run.h"
#include "ops/attention.h"

namespace ft::nn {

struct cross_attention {
  linear query;
  linear key_value;  // of the encoder's states: [key heads | value heads]
  linear output;
  int64_t num_heads = 0;  // this rank's; its output is a part of the ranks' sum
  int64_t head_dim = 0;
  attention_options options;

  explicit operator bool() const { return bool(query); }

  // out = output(attend(x)) + residual; x, out, residual [tokens, hidden_size]; residual may be null or `out`. Keys and
  // values come from the batch's cross pages of `cache`, or, where that is null, from its encoder's states.
  void forward(run& run, const ragged_batch& batch, const kv_pages* cache, const tensor& x, const tensor& out,
               const tensor& residual = {}) const;

  // Stores the keys and values of the encoder's states [tokens, hidden_size] in a layer's pages.
  void keep(run& run, const tensor& states, const tensor& slots, const kv_pages& cache) const;

 private:
  struct keys_and_values {
    tensor key, value;  // [tokens, num_heads, head_dim]
  };
  keys_and_values project(run& run, const tensor& states) const;
};

}  // namespace ft::nn
