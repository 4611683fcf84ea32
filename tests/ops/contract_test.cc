// Broken contracts are errors that name the operation and the argument, whatever the backend.
#include "ops/harness.h"

namespace ft::test {
namespace {

float memory[4096];
int32_t integers[64];

tensor f32(std::initializer_list<int64_t> shape) { return tensor(memory, dtype::f32, shape); }
tensor i32(std::initializer_list<int64_t> shape) { return tensor(integers, dtype::i32, shape); }

tensor sparse(std::initializer_list<int64_t> shape) {
  tensor t = f32(shape);
  for (int i = 0; i < t.rank; ++i) t.stride[i] *= 2;
  return t;
}

exec& ex() { return reference().ex; }

}  // namespace

#define CHECK_BROKEN(text, ...) CHECK_ERROR(FT_ERROR_INTERNAL, text, __VA_ARGS__)

TEST(elementwise_contracts) {
  CHECK_BROKEN("activation: out has shape [2, 3], not [2, 4]",
               ops::activation(ex(), {.out = f32({2, 3}), .x = f32({2, 4})}));
  CHECK_BROKEN("activation: x has rank 3", ops::activation(ex(), {.out = f32({2, 3}), .x = f32({2, 4, 1})}));
  CHECK_BROKEN("activation: the last axis of x", ops::activation(ex(), {.out = f32({2, 4}), .x = sparse({2, 4})}));
  CHECK_BROKEN("activation: x is int32", ops::activation(ex(), {.out = f32({2, 4}), .x = i32({2, 4})}));
  CHECK_BROKEN("activation: out is null",
               ops::activation(ex(), {.out = tensor(nullptr, dtype::f32, {2, 4}), .x = f32({2, 4})}));
  CHECK_BROKEN("gated_activation: up",
               ops::gated_activation(ex(), {.out = f32({2, 4}), .gate = f32({2, 4}), .up = f32({1, 4})}));
  CHECK_BROKEN("add: b", ops::add(ex(), {.out = f32({2, 4}), .a = f32({2, 4}), .b = f32({2, 5})}));
  CHECK_BROKEN("scale: softcap", ops::scale(ex(), {.out = f32({2, 4}), .x = f32({2, 4}), .softcap = -1}));
  CHECK_BROKEN("gather_rows: index is float32",
               ops::gather_rows(ex(), {.out = f32({2, 4}), .x = f32({2, 4}), .index = f32({2})}));
  CHECK_BROKEN("log_softmax: out has shape", ops::log_softmax(ex(), {.out = f32({2, 5}), .x = f32({2, 4})}));
  CHECK_BROKEN("argmax: rows are empty", ops::argmax(ex(), {.out = i32({2}), .x = f32({2, 0})}));
  CHECK_BROKEN("top_k: index has shape",
               ops::top_k(ex(), {.value = f32({2, 3}), .index = i32({2, 4}), .log_sum = f32({2}), .x = f32({2, 4})}));
  CHECK_BROKEN("top_k: k is not between",
               ops::top_k(ex(), {.value = f32({1, 0}), .index = i32({1, 0}), .log_sum = f32({1}), .x = f32({1, 4})}));
  CHECK_BROKEN("top_k: k is not between", ops::top_k(ex(), {.value = f32({1, 257}),
                                                            .index = tensor(memory, dtype::i32, {1, 257}),
                                                            .log_sum = f32({1}),
                                                            .x = f32({1, 4})}));
  CHECK_BROKEN(
      "sample: uniform is float32",
      ops::sample(
          ex(),
          {.token = i32({2}), .log_prob = f32({2}), .x = f32({2, 4}), .uniform = f32({2}), .temperature = f32({2})}));
  CHECK_BROKEN("edit_logits: penalties has shape",
               ops::edit_logits(ex(), {.x = f32({2, 4}), .edits = i32({5, 3}), .penalties = f32({1, 3})}));
  CHECK_BROKEN("log_softmax: rows are empty", ops::log_softmax(ex(), {.out = f32({2, 0}), .x = f32({2, 0})}));
}

TEST(row_contracts) {
  CHECK_BROKEN("norm: weight is null", ops::norm(ex(), {.out = f32({2, 4}), .x = f32({2, 4})}));
  CHECK_BROKEN("norm: residual",
               ops::norm(ex(), {.out = f32({2, 4}), .x = f32({2, 4}), .residual = f32({2, 5}), .weight = memory}));
  CHECK_BROKEN("norm: x is neither", ops::norm(ex(), {.out = f32({4}), .x = f32({4}), .weight = memory}));
  CHECK_BROKEN("embedding: exactly one", ops::embedding(ex(), {.out = f32({2, 4}), .ids = i32({2})}));
  CHECK_BROKEN("embedding_sum: the first lookup has no ids", ops::embedding_sum(ex(), {.out = f32({2, 4})}));
  CHECK_BROKEN("embedding: the table is not",
               ops::embedding(ex(), {.out = f32({2, 4}), .ids = i32({2}), .table = i32({2, 4})}));
  CHECK_BROKEN("pool: row_offsets has shape [2], not [3]",
               ops::pool(ex(), {.out = f32({2, 4}), .x = f32({5, 4}), .row_offsets = i32({2})}));
  CHECK_BROKEN("linear: weight is null", ops::linear(ex(), {.out = f32({2, 4}), .x = f32({2, 4})}));
}

TEST(rotary_contracts) {
  CHECK_BROKEN("rotary_table: the table's width is odd",
               ops::rotary_table(ex(), {.table = f32({2, 3}), .positions = i32({2}), .inverse_frequency = memory}));
  CHECK_BROKEN("rotary_table: inverse_frequency",
               ops::rotary_table(ex(), {.table = f32({2, 4}), .positions = i32({2})}));
  CHECK_BROKEN("rotary: the table's width", ops::rotary(ex(), {.x = f32({2, 1, 4}), .table = f32({2, 6})}));
  CHECK_BROKEN("rotary: table has shape", ops::rotary(ex(), {.x = f32({2, 1, 4}), .table = f32({3, 4})}));
}

TEST(attention_contracts) {
  attention_args a{.out = f32({4, 2, 8}),
                   .query = f32({4, 2, 8}),
                   .key = f32({4, 2, 8}),
                   .value = f32({4, 2, 8}),
                   .row_offsets = i32({2})};
  const auto broken = [&](const char* text, auto change) {
    attention_args b = a;
    change(b);
    CHECK_BROKEN(text, ops::attention(ex(), b));
  };
  broken("attention: num_heads is not a multiple", [](attention_args& b) { b.query = b.out = f32({4, 3, 8}); });
  broken("attention: value has shape", [](attention_args& b) { b.value = f32({4, 1, 8}); });
  broken("attention: query and key have different", [](attention_args& b) { b.query = b.out = f32({3, 2, 8}); });
  broken("attention: out is not contiguous", [](attention_args& b) { b.out.stride[0] = 20; });
  broken("attention: window", [](attention_args& b) { b.options.window = -1; });
  broken("attention: row_offsets is empty", [](attention_args& b) { b.row_offsets = i32({0}); });
  broken("attention: key_row_offsets", [](attention_args& b) { b.key_row_offsets = i32({3}); });
  broken("attention: attention to another sequence is not causal", [](attention_args& b) {
    b.key_row_offsets = i32({2});
    b.causal = true;
  });
  broken("attention: attention to another sequence has no window", [](attention_args& b) {
    b.key_row_offsets = i32({2});
    b.options.window = 3;
  });
  broken("attention: relative_bias has shape", [](attention_args& b) { b.options.relative_bias = f32({3, 5}); });
  broken("attention: relative_bias has an even", [](attention_args& b) { b.options.relative_bias = f32({2, 4}); });
  broken("attention: alibi_slopes and relative_bias", [](attention_args& b) {
    b.options.relative_bias = f32({2, 5});
    b.options.alibi_slopes = static_cast<float*>(b.options.relative_bias.data);
  });
}

TEST(paged_contracts) {
  const kv_pages pages{memory, memory, {.num_kv_heads = 2, .head_dim = 8}};
  paged_attention_args a{.out = f32({4, 2, 8}),
                         .query = f32({4, 2, 8}),
                         .pages = pages,
                         .page_table = i32({2, 3}),
                         .row_offsets = i32({3}),
                         .context_lengths = i32({2})};
  const auto broken = [&](const char* text, auto change) {
    paged_attention_args b = a;
    change(b);
    CHECK_BROKEN(text, ops::paged_attention(ex(), b));
  };
  broken("paged_attention: row_offsets", [](paged_attention_args& b) { b.row_offsets = i32({2}); });
  broken("paged_attention: page_table", [](paged_attention_args& b) { b.page_table = i32({1, 3}); });
  broken("paged_attention: a page pool is null", [](paged_attention_args& b) { b.pages.values = nullptr; });
  broken("paged_attention: pages are not", [](paged_attention_args& b) { b.pages.layout.type = dtype::i8; });
  broken("paged_attention: query has shape", [](paged_attention_args& b) { b.pages.layout.head_dim = 4; });
  broken("paged_attention: attention to another sequence has no window and no bias", [](paged_attention_args& b) {
    b.causal = false;
    b.options.relative_bias = f32({2, 5});
  });
  const paged_self_attention_args both{
      .rotary_table = f32({4, 8}),
      .keys = {.key = f32({4, 2, 8}), .value = f32({4, 2, 8}), .slots = i32({4}), .pages = pages},
      .attention = a};
  const auto broken_both = [&](const char* text, auto change) {
    paged_self_attention_args b = both;
    change(b);
    CHECK_BROKEN(text, ops::paged_self_attention(ex(), b));
  };
  broken_both("paged_self_attention: it is not causal", [](auto& b) { b.attention.causal = false; });
  broken_both("paged_self_attention: keys are written to other pages", [](auto& b) { b.keys.pages.keys = memory + 1; });
  broken_both("paged_self_attention: query and key have different", [](auto& b) {
    b.keys.key = b.keys.value = f32({3, 2, 8});
    b.keys.slots = i32({3});
  });
  broken_both("paged_self_attention: table has shape", [](auto& b) { b.rotary_table = f32({3, 8}); });
  broken_both("paged_self_attention: the table's width", [](auto& b) { b.rotary_table = f32({4, 10}); });
  CHECK_BROKEN(
      "kv_write: key has shape",
      ops::kv_write(ex(), {.key = f32({2, 1, 8}), .value = f32({2, 2, 8}), .slots = i32({2}), .pages = pages}));
  CHECK_BROKEN(
      "kv_write: slots",
      ops::kv_write(ex(), {.key = f32({2, 2, 8}), .value = f32({2, 2, 8}), .slots = i32({3}), .pages = pages}));
  CHECK_BROKEN("kv_copy: to has shape",
               ops::kv_copy(ex(), {.pages = pages, .from = i32({2}), .to = i32({3}), .tokens = i32({2})}));
  CHECK_BROKEN("kv_copy: a page pool is null",
               ops::kv_copy(ex(), {.pages = {}, .from = i32({2}), .to = i32({2}), .tokens = i32({2})}));
}

}  // namespace ft::test
