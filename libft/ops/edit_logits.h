// edit_logits: x[row, token] = edited(x[row, token], change, penalties[row]) for each edit (core/logit_edit.h)
//
//   x         [rows, width] f32, the last axis dense
//   edits     [n, 3] i32, packed: row, token and change; no two edits of one element. Row -1 is no edit.
//   penalties [rows, 3] f32, packed: repetition, presence and frequency
#pragma once

#include "ops/exec.h"

namespace ft {

struct edit_logits_args {
  tensor x;
  tensor edits;
  tensor penalties;
};

namespace ops {
void edit_logits(exec&, const edit_logits_args&);
}

}  // namespace ft
