// The operations of a decoder's layers in a decoding step, one after another, on tensors that somebody else has made:
// what programs are made of. For their tests and their benchmark.
#pragma once

#include <vector>

#include "ops/op_table.h"

namespace ft::test {

struct decoder_shape {
  int64_t rows, hidden, heads, kv_heads, head_dim, inner;
  bool gated = false;     // gate and up, else up with GELU
  bool parallel = false;  // one norm, attention and feed-forward side by side (GPT-J)
  bool cross = false;     // attention to an encoder in between (T5)
  bool rotary = true;
  norm_kind norm = norm_kind::layer;

  int64_t attended() const { return heads * head_dim; }
  int64_t projected() const { return (heads + 2 * kv_heads) * head_dim; }
};

struct product_weights {
  const packed_weight* weight = nullptr;
  const float* bias = nullptr;
};

struct decoder_layer {
  const float *norm[3] = {}, *norm_bias[3] = {};
  product_weights project, output, query, cross_output, up, down;
  kv_pages pages, cross_pages;
};

struct decoder_chain {
  decoder_shape s;
  tensor hidden, normed, projected, queries, attended, inner, gated, angles, slots, page_table, row_offsets, lengths,
      cross_table, cross_lengths;
  std::vector<decoder_layer> layers;
  attention_options options;

  void run(exec& ex) const {
    for (const decoder_layer& l : layers) {
      norm(ex, l, 0);
      project(ex, l);
      attend(ex, l);
      multiply(ex, l.output, attended.reshape({s.rows, s.attended()}), hidden, activation_kind::none, hidden);
      if (s.cross) attend_across(ex, l);
      if (s.parallel)
        multiply(ex, l.up, normed, inner, activation_kind::gelu_tanh);
      else
        widen(ex, l);
      multiply(ex, l.down, s.gated ? gated : inner, hidden, activation_kind::none, hidden);
    }
  }

  // Bytes of weights that a layer reads.
  double layer_bytes() const {
    double bytes = 0;
    const decoder_layer& l = layers.front();
    for (const product_weights& w : {l.project, l.output, l.query, l.cross_output, l.up, l.down})
      if (w.weight) bytes += static_cast<double>(w.weight->bytes);
    return bytes;
  }

 private:
  void norm(exec& ex, const decoder_layer& l, int i) const {
    ops::norm(ex, {.out = normed, .x = hidden, .weight = l.norm[i], .bias = l.norm_bias[i], .kind = s.norm});
  }

  void multiply(exec& ex, const product_weights& w, const tensor& x, const tensor& out,
                activation_kind kind = activation_kind::none, const tensor& residual = {}) const {
    ops::linear(ex, {.out = out, .x = x, .weight = w.weight, .bias = w.bias, .activation = kind, .residual = residual});
  }

  void project(exec& ex, const decoder_layer& l) const {
    multiply(ex, l.project, normed, projected);
    const int64_t key_at = s.attended(), value_at = key_at + s.kv_heads * s.head_dim;
    const tensor query = projected.slice(1, 0, key_at).split_last(s.heads);
    const tensor key = projected.slice(1, key_at, value_at).split_last(s.kv_heads);
    const kv_write_args write{.key = key,
                              .value = projected.slice(1, value_at, s.projected()).split_last(s.kv_heads),
                              .slots = slots,
                              .pages = l.pages};
    if (!s.rotary) return ops::kv_write(ex, write);
    if (ex.ops.rotary_kv_write)
      return ops::rotary_kv_write(ex,
                                  {.query = query, .table = angles, .style = rotary_style::interleaved, .keys = write});
    ops::rotary(ex, {.x = query, .table = angles, .style = rotary_style::interleaved});
    ops::rotary(ex, {.x = key, .table = angles, .style = rotary_style::interleaved});
    ops::kv_write(ex, write);
  }

  void attend(exec& ex, const decoder_layer& l) const {
    ops::paged_attention(ex, {.out = attended,
                              .query = projected.slice(1, 0, s.attended()).split_last(s.heads),
                              .pages = l.pages,
                              .page_table = page_table,
                              .row_offsets = row_offsets,
                              .context_lengths = lengths,
                              .options = options});
  }

  void attend_across(exec& ex, const decoder_layer& l) const {
    norm(ex, l, 1);
    multiply(ex, l.query, normed, queries);
    ops::paged_attention(ex, {.out = attended,
                              .query = queries.split_last(s.heads),
                              .pages = l.cross_pages,
                              .page_table = cross_table,
                              .row_offsets = row_offsets,
                              .context_lengths = cross_lengths,
                              .causal = false,
                              .options = {.scale = options.scale}});
    multiply(ex, l.cross_output, attended.reshape({s.rows, s.attended()}), hidden, activation_kind::none, hidden);
  }

  void widen(exec& ex, const decoder_layer& l) const {
    norm(ex, l, 2);
    multiply(ex, l.up, normed, inner, s.gated ? activation_kind::none : activation_kind::gelu);
    if (s.gated)
      ops::gated_activation(ex, {.out = gated,
                                 .gate = inner.slice(1, 0, s.inner),
                                 .up = inner.slice(1, s.inner, 2 * s.inner),
                                 .kind = activation_kind::silu});
  }
};

}  // namespace ft::test
