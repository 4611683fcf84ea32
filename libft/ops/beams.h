// Beam search where a device goes on before the host has seen what it chose (decode/beam_search.h has the rules).
//
// choose_beams: of each group's beams, whose best tokens top_k has found, the continuations that go on
//
//   value, index [n, k], log_sum [n] as top_k leaves them, at temperature 1; tokens are below most_beam_tokens
//   score   [any] f32, the accumulated log-probability of each row of the step
//   row     [n] i32: beam i is row[i] of the step
//   offsets [groups + 1] i32: group g has the beams from offsets[g] to offsets[g + 1], 128 at most
//   stops   [groups, s] i32, tokens with which a sequence of the group ends; -1 is none
//   next    [n, 3] i32, packed beam_choices, the best of a group first: of all that a beam of the group and one of its
//           tokens make, those whose token stops no sequence, as many as the group has beams
//
//   A continuation's score is value[i, j] - value[i, 0] - log_sum[i] + score[row[i]], each operation rounded to
//   float32. Of equal ones the earlier beam comes first, then the lower token. Where there are too few above -infinity
//   the rest are {0, 0, -infinity}, from which nothing comes.
//
// reorder_beams: page tables, slots and scores of a step whose rows go on from choices that the step before made
//
//   chosen      [any] i32, with the choices in it
//   place       [rows] i32: row r goes on from the choice at chosen[place[r]]; -1: it goes on from itself
//   first       [rows] i32: the row that the choice's parent is counted from, beam 0 of the group
//   positions   [rows] i32: of the token that the row computes
//   fresh       [rows] i32: a page that nobody else has, for each row with a place
//   page_table  [rows, width] i32, as it was before the choices
//   new_table   [rows, width] i32: the parent's pages, of which the one of positions[r] is fresh[r] where that page is
//               still empty, and where an earlier row of the group has the same parent
//   slots       [rows] i32 of the positions, as kv_write takes them
//   from, to, tokens [rows] i32, what kv_copy is to copy: the parent's tokens in a page that is not its first child's
//   score       [rows] f32 of the choices; 0 where there is none
#pragma once

#include "decode/device_choice.h"
#include "ops/exec.h"

namespace ft {

struct choose_beams_args {
  tensor next;
  tensor value;
  tensor index;
  tensor log_sum;
  tensor score;
  tensor row;
  tensor offsets;
  tensor stops;
};

struct reorder_beams_args {
  tensor new_table;
  tensor slots;
  tensor from;
  tensor to;
  tensor tokens;
  tensor score;
  tensor chosen;
  tensor place;
  tensor first;
  tensor positions;
  tensor fresh;
  tensor page_table;
  int64_t page_tokens = 0;
};

namespace ops {
void choose_beams(exec&, const choose_beams_args&);
void reorder_beams(exec&, const reorder_beams_args&);
}  // namespace ops

}  // namespace ft
