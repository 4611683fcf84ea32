// log_softmax: out[r, i] = x[r, i] - log Σ_j exp(x[r, j])
//
//   x, out  [rows, width] f32, the last axis dense; out may be x itself
//
// Elements of -infinity stay so; a row that holds nothing else gives NaNs.
#pragma once

#include "ops/exec.h"

namespace ft {

struct log_softmax_args {
  tensor out;
  tensor x;
};

namespace ops {
void log_softmax(exec&, const log_softmax_args&);
}

}  // namespace ft
