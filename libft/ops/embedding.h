// embedding: out[t] = scale * table[ids[t]] (+ out[t] when accumulating)
//
//   ids    [tokens] i32, each a row of the whole table; the caller has checked them
//   chosen [any] i32, null where there is none: an id -1 - i stands for chosen[i], which the host need not know yet.
//          One that is itself negative (no token could be chosen) is taken for 0
//   table  a packed weight (so that a tied output projection shares it) or a plain tensor [rows, width] f32/f16/bf16
//   first_row  the row of the whole table that `table` begins with, where it is a rank's share of one: an id that is
//          none of its rows gives zeros
//   out    [tokens, width]
//
// embedding_sum: out = norm(Σ of the lookups), in one pass where the backend has it; else one after another
//
//   lookups  as above but for out and accumulate, which are not given; those without ids are none, but for the first
//   norm     as ops/norm.h but for its tensors, which are `out`; without a weight there is none
#pragma once

#include <array>

#include "ops/exec.h"
#include "ops/norm.h"

namespace ft {

struct embedding_args {
  tensor out;
  tensor ids;
  tensor chosen;
  const packed_weight* packed = nullptr;  // exactly one of packed and table is given
  tensor table;
  int64_t first_row = 0;
  float scale = 1;
  bool accumulate = false;
};

struct embedding_sum_args {
  tensor out;
  std::array<embedding_args, 3> lookups;
  norm_args norm;
};

namespace ops {
void embedding(exec&, const embedding_args&);
void embedding_sum(exec&, const embedding_sum_args&);
}  // namespace ops

}  // namespace ft
