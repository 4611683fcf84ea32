// pool: one vector a row of the ragged batch, as sentence-transformers does
//
//   x [tokens, width]; row_offsets [rows + 1] i32; out [rows, width] f32
//   normalize: out[r] /= max(|out[r]|_2, 1e-12)
// Every row holds at least one token.
#pragma once

#include "core/pool_kind.h"
#include "ops/exec.h"

namespace ft {

struct pool_args {
  tensor out;
  tensor x;
  tensor row_offsets;
  pool_kind kind = pool_kind::mean;
  bool normalize = false;
};

namespace ops {
void pool(exec&, const pool_args&);
}

}  // namespace ft
