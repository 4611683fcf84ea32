// embedding: out[t] = scale * table[ids[t]] (+ out[t] when accumulating)
//
//   ids    [tokens] i32, each in [0, table rows); the caller has checked them
//   chosen [any] i32, null where there is none: an id -1 - i stands for chosen[i], which the host need not know yet.
//          One that is itself negative (no token could be chosen) is taken for 0
//   table  a packed weight (so that a tied output projection shares it) or a plain tensor [rows, width] f32/f16/bf16
//   out    [tokens, width]
#pragma once

#include "ops/exec.h"

namespace ft {

struct embedding_args {
  tensor out;
  tensor ids;
  tensor chosen;
  const packed_weight* packed = nullptr;  // exactly one of packed and table is given
  tensor table;
  float scale = 1;
  bool accumulate = false;
};

namespace ops {
void embedding(exec&, const embedding_args&);
}

}  // namespace ft
