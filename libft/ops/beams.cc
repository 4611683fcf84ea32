// Contract checks of choose_beams and reorder_beams.
#include "ops/beams.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void choose_beams(exec& ex, const choose_beams_args& a) {
  const contract c("choose_beams");
  const int64_t n = c.dim("value", a.value, 2, 0), k = a.value.shape[1];
  const int64_t groups = c.dim("offsets", a.offsets, 1, 0) - 1;
  c.packed("value", a.value, dtype::f32, {n, k});
  c.packed("index", a.index, dtype::i32, {n, k});
  c.packed("log_sum", a.log_sum, dtype::f32, {n});
  c.packed("score", a.score, dtype::f32, {c.dim("score", a.score, 1, 0)});
  c.packed("row", a.row, dtype::i32, {n});
  c.packed("offsets", a.offsets, dtype::i32, {groups + 1});
  c.packed("stops", a.stops, dtype::i32, {groups, c.dim("stops", a.stops, 2, 1)});
  c.packed("next", a.next, dtype::i32, {n, beam_choice_size});
  c.require(groups > 0 && k > 0, "there are no groups or no candidates");
  ex.ops.choose_beams(ex, a);
}

void reorder_beams(exec& ex, const reorder_beams_args& a) {
  const contract c("reorder_beams");
  const int64_t rows = c.dim("page_table", a.page_table, 2, 0), width = a.page_table.shape[1];
  c.packed("page_table", a.page_table, dtype::i32, {rows, width});
  c.packed("new_table", a.new_table, dtype::i32, {rows, width});
  c.packed("chosen", a.chosen, dtype::i32, {c.dim("chosen", a.chosen, 1, 0)});
  c.packed("place", a.place, dtype::i32, {rows});
  c.packed("first", a.first, dtype::i32, {rows});
  c.packed("positions", a.positions, dtype::i32, {rows});
  c.packed("fresh", a.fresh, dtype::i32, {rows});
  c.packed("slots", a.slots, dtype::i32, {rows});
  c.packed("from", a.from, dtype::i32, {rows});
  c.packed("to", a.to, dtype::i32, {rows});
  c.packed("tokens", a.tokens, dtype::i32, {rows});
  c.packed("score", a.score, dtype::f32, {rows});
  c.require(a.page_tokens > 0, "page_tokens is not positive");
  ex.ops.reorder_beams(ex, a);
}

}  // namespace ft::ops
