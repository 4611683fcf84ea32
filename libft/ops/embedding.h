// embedding: out[t] = scale * table[ids[t]] (+ out[t] when accumulating)
//
//   ids    [tokens] i32, each in [0, table rows); the caller has checked them
//   table  a packed weight (so that a tied output projection shares it) or a plain tensor [rows, width] f32/f16/bf16
//   out    [tokens, width]
#pragma once

#include "ops/exec.h"

namespace ft {

struct embedding_args {
  tensor out;
  tensor ids;
  const packed_weight* packed = nullptr;  // exactly one of packed and table is given
  tensor table;
  float scale = 1;
  bool accumulate = false;
};

namespace ops {
void embedding(exec&, const embedding_args&);
}

}  // namespace ft
