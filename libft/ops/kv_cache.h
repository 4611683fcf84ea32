// kv_write: stores the step's keys and values in their pages
//
//   key, value  [tokens, num_kv_heads, head_dim], the last axis dense
//   slots       [tokens] i32: page * page_tokens + position within the page
//   key_pages, value_pages  one layer's pools, num_pages * kv_page_bytes each
//
// rotary_kv_write: rotary of queries and keys (ops/rotary.h), and kv_write of the turned keys, in one pass. A backend
// may do without. What `key` holds afterwards is undefined.
//
//   query  [tokens, num_heads, head_dim], turned in place
//   table  [tokens, 2 n] f32, as rotary_table makes it
//
// kv_copy: copies the first tokens of pages, keys and values, of page from[i] onto page to[i], in each of `layers`
// layers
//
//   tokens    [n] i32: how many of page from[i]; what page to[i] holds behind them is undefined. Where it is 0 there is
//             nothing to copy, whatever the pages
//   from, to  [n] i32, page numbers; else no page is among both
//   pages     the first layer's; those of each other lie `layer_bytes` behind the ones before
#pragma once

#include "ops/exec.h"
#include "ops/rotary.h"

namespace ft {

struct kv_pages {
  void* keys = nullptr;
  void* values = nullptr;
  kv_layout layout;
};

struct kv_write_args {
  tensor key;
  tensor value;
  tensor slots;
  kv_pages pages;
};

struct rotary_kv_write_args {
  tensor query;
  tensor table;
  rotary_style style = rotary_style::half;
  kv_write_args keys;
};

struct kv_copy_args {
  kv_pages pages;
  tensor from;
  tensor to;
  tensor tokens;
  int64_t layers = 1;
  int64_t layer_bytes = 0;
};

namespace ops {
void kv_write(exec&, const kv_write_args&);
void rotary_kv_write(exec&, const rotary_kv_write_args&);  // only where the backend has it
void kv_copy(exec&, const kv_copy_args&);
}  // namespace ops

}  // namespace ft
