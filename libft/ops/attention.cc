// Contract checks of attention, paged_attention and paged_self_attention, and the parts of the last.
#include "ops/attention.h"

#include "ops/kv_contract.h"
#include "ops/op_table.h"

namespace ft::ops {
namespace {

void check_options(const contract& c, const attention_options& o, int64_t heads, bool another_sequence) {
  c.require(o.softcap >= 0, "softcap is negative");
  c.require(o.window >= 0, "window is negative");
  c.require(!o.alibi_slopes || !o.relative_bias, "alibi_slopes and relative_bias are both given");
  if (o.relative_bias) {
    const int64_t distances = c.dim("relative_bias", o.relative_bias, 2, 1);
    c.packed("relative_bias", o.relative_bias, dtype::f32, {heads, distances});
    c.require(distances % 2 == 1, "relative_bias has an even number of distances");
  }
  c.require(!another_sequence || (!o.window && !o.alibi_slopes && !o.relative_bias),
            "attention to another sequence has no window and no bias");
}

void check_queries(const contract& c, const tensor& query, const tensor& out, int64_t kv_heads, int64_t head_dim) {
  const int64_t tokens = c.dim("query", query, 3, 0), heads = query.shape[1];
  const dtype type = c.activations("query", query);
  c.dense_rows("query", query, type, {tokens, heads, head_dim});
  c.packed("out", out, type, {tokens, heads, head_dim});
  c.require(head_dim > 0, "head_dim is not positive");
  c.require(kv_heads > 0 && heads % kv_heads == 0, "num_heads is not a multiple of num_kv_heads");
}

void check_paged(const contract& c, const paged_attention_args& a) {
  const kv_layout& layout = a.pages.layout;
  check_queries(c, a.query, a.out, layout.num_kv_heads, layout.head_dim);
  check_pages(c, a.pages);
  const int64_t rows = c.dim("context_lengths", a.context_lengths, 1, 0);
  c.packed("context_lengths", a.context_lengths, dtype::i32, {rows});
  c.packed("row_offsets", a.row_offsets, dtype::i32, {rows + 1});
  c.dense_rows("page_table", a.page_table, dtype::i32, {rows, c.dim("page_table", a.page_table, 2, 1)});
  check_options(c, a.options, a.query.shape[1], !a.causal);
  if (a.shared.offsets) {
    const int64_t groups = c.dim("shared.lengths", a.shared.lengths, 1, 0);
    c.packed("shared.lengths", a.shared.lengths, dtype::i32, {groups});
    c.packed("shared.offsets", a.shared.offsets, dtype::i32, {groups + 1});
    c.require(a.shared.widest > 0 && groups <= rows, "there are no groups, or more than rows");
    c.require(a.query.shape[0] == rows, "rows of more than one query share no keys");
  }
}

}  // namespace

void attention(exec& ex, const attention_args& a) {
  const contract c("attention");
  const int64_t keys = c.dim("key", a.key, 3, 0), kv_heads = a.key.shape[1], head_dim = a.key.shape[2];
  c.dense_rows("key", a.key, a.query.type, {keys, kv_heads, head_dim});
  c.dense_rows("value", a.value, a.query.type, {keys, kv_heads, head_dim});
  check_queries(c, a.query, a.out, kv_heads, head_dim);
  const int64_t offsets = c.dim("row_offsets", a.row_offsets, 1, 0);
  c.packed("row_offsets", a.row_offsets, dtype::i32, {offsets});
  c.require(offsets > 0, "row_offsets is empty");
  if (a.key_row_offsets) {
    c.packed("key_row_offsets", a.key_row_offsets, dtype::i32, {offsets});
    c.require(!a.causal, "attention to another sequence is not causal");
  } else {
    c.require(a.query.shape[0] == keys, "query and key have different numbers of tokens");
  }
  check_options(c, a.options, a.query.shape[1], bool(a.key_row_offsets));
  ex.ops.attention(ex, a);
}

void paged_attention(exec& ex, const paged_attention_args& a) {
  check_paged(contract("paged_attention"), a);
  ex.ops.paged_attention(ex, a);
}

void paged_self_attention(exec& ex, const paged_self_attention_args& a) {
  const contract c("paged_self_attention");
  const kv_pages &written = a.keys.pages, &read = a.attention.pages;
  const tensor &query = a.attention.query, &key = a.keys.key;
  check_write(c, a.keys);
  check_paged(c, a.attention);
  c.require(a.attention.causal, "it is not causal");
  c.require(written.keys == read.keys && written.values == read.values,
            "keys are written to other pages than are read");
  c.require(key.type == query.type && key.shape[0] == query.shape[0],
            "query and key have different dtypes or numbers of tokens");
  if (a.rotary_table) check_table(c, a.rotary_table, query);
  const op_table& ops = ex.ops;  // all is checked
  if (ops.paged_self_attention && ops.paged_self_attention(ex, a)) return;
  if (a.rotary_table && ops.rotary_kv_write) {
    ops.rotary_kv_write(ex, {.query = query, .table = a.rotary_table, .style = a.style, .keys = a.keys});
  } else {
    if (a.rotary_table)
      for (const tensor& x : {query, key}) ops.rotary(ex, {.x = x, .table = a.rotary_table, .style = a.style});
    ops.kv_write(ex, a.keys);
  }
  ops.paged_attention(ex, a.attention);
}

}  // namespace ft::ops
