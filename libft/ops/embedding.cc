// Contract checks of embedding.
#include "ops/embedding.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void embedding(exec& ex, const embedding_args& a) {
  const contract c("embedding");
  const int64_t tokens = c.dim("ids", a.ids, 1, 0);
  const int64_t width = c.dim("out", a.out, 2, 1);
  c.packed("ids", a.ids, dtype::i32, {tokens});
  if (a.chosen) c.packed("chosen", a.chosen, dtype::i32, {c.dim("chosen", a.chosen, 1, 0)});
  c.dense_rows("out", a.out, c.activations("out", a.out), {tokens, width});
  c.require(!a.packed != !a.table, "exactly one of packed and table must be given");
  if (a.packed) {
    c.require(a.packed->in_features == width, "the packed table is not as wide as out");
  } else {
    const dtype type = a.table.type;
    c.require(type == dtype::f32 || type == dtype::f16 || type == dtype::bf16,
              "the table is not float32, float16 or bfloat16");
    c.dense_rows("table", a.table, type, {c.dim("table", a.table, 2, 0), width});
  }
  ex.ops.embedding(ex, a);
}

}  // namespace ft::ops
