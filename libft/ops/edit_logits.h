// edit_logits: x[row, token] = edited(x[row, token], change, penalties[row]) for each edit (core/logit_edit.h)
//
//   x         [rows, width] f32, the last axis dense
//   edits     [n, 3] i32, packed: row, token and change; no two edits of one element. Row -1 is no edit.
//   penalties [rows, 3] f32, packed: repetition, presence and frequency
//
// A row may have an edit more, of a token that an earlier step has chosen and the host does not know. Where it is also
// among the edits, the two are one (core/logit_edit.h, joined). All null: there are none.
//
//   chosen    [any] i32
//   late      [rows, 2] i32: where among `chosen` the token is (-1: no such edit), and the change. A token that is
//             itself negative is none
#pragma once

#include "ops/exec.h"

namespace ft {

struct edit_logits_args {
  tensor x;
  tensor edits;
  tensor penalties;
  tensor chosen = {};
  tensor late = {};
};

namespace ops {
void edit_logits(exec&, const edit_logits_args&);
}

}  // namespace ft
