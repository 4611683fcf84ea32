// Contract checks of edit_logits.
#include "ops/edit_logits.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void edit_logits(exec& ex, const edit_logits_args& a) {
  const contract c("edit_logits");
  const int64_t rows = c.dim("x", a.x, 2, 0), edits = c.dim("edits", a.edits, 2, 0);
  c.dense_rows("x", a.x, dtype::f32, {rows, a.x.shape[1]});
  c.packed("edits", a.edits, dtype::i32, {edits, 3});
  c.packed("penalties", a.penalties, dtype::f32, {rows, 3});
  if (a.late) {
    c.packed("late", a.late, dtype::i32, {rows, 2});
    c.packed("chosen", a.chosen, dtype::i32, {c.dim("chosen", a.chosen, 1, 0)});
  }
  ex.ops.edit_logits(ex, a);
}

}  // namespace ft::ops
