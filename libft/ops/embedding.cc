// Contract checks of embedding and embedding_sum.
#include "ops/embedding.h"

#include <utility>

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

namespace {

void check_lookup(const contract& c, const embedding_args& a, int64_t tokens, int64_t width) {
  c.packed("ids", a.ids, dtype::i32, {tokens});
  if (a.chosen) c.packed("chosen", a.chosen, dtype::i32, {c.dim("chosen", a.chosen, 1, 0)});
  c.require(!a.packed != !a.table, "exactly one of packed and table must be given");
  c.require(a.first_row >= 0, "first_row is negative");
  if (a.packed) {
    c.require(a.packed->in_features == width, "the packed table is not as wide as out");
  } else {
    const dtype type = a.table.type;
    c.require(type == dtype::f32 || type == dtype::f16 || type == dtype::bf16,
              "the table is not float32, float16 or bfloat16");
    c.dense_rows("table", a.table, type, {c.dim("table", a.table, 2, 0), width});
  }
}

void embed_one_by_one(exec& ex, const embedding_sum_args& a) {
  bool accumulate = false;
  for (embedding_args lookup : a.lookups) {
    if (!lookup.ids) continue;
    lookup.out = a.out;
    lookup.accumulate = std::exchange(accumulate, true);
    ex.ops.embedding(ex, lookup);
  }
  if (!a.norm.weight) return;
  norm_args norm = a.norm;
  norm.x = norm.out = a.out;
  ex.ops.norm(ex, norm);
}

}  // namespace

void embedding(exec& ex, const embedding_args& a) {
  const contract c("embedding");
  const int64_t tokens = c.dim("ids", a.ids, 1, 0), width = c.dim("out", a.out, 2, 1);
  c.dense_rows("out", a.out, c.activations("out", a.out), {tokens, width});
  check_lookup(c, a, tokens, width);
  ex.ops.embedding(ex, a);
}

void embedding_sum(exec& ex, const embedding_sum_args& a) {
  const contract c("embedding_sum");
  const int64_t tokens = c.dim("out", a.out, 2, 0), width = a.out.shape[1];
  c.dense_rows("out", a.out, c.activations("out", a.out), {tokens, width});
  c.require(bool(a.lookups[0].ids), "the first lookup has no ids");
  for (const embedding_args& lookup : a.lookups)
    if (lookup.ids) check_lookup(c, lookup, tokens, width);
  if (ex.ops.embedding_sum) return ex.ops.embedding_sum(ex, a);
  embed_one_by_one(ex, a);
}

}  // namespace ft::ops
