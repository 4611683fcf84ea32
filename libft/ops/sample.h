// sample: a draw from softmax(x / t) of each row by its cumulative distribution
//
//   w_i      = exp(x[r, i] / t - max_j x[r, j] / t), t = temperature[r]; 0 where x[r, i] is NaN
//   token[r] = the first i with Σ_{j <= i} w_j > uniform[r] Σ_j w_j, up to rounding
//
//   x [rows, width] f32, the last axis dense; uniform [rows] f64, 0 <= uniform < 1; temperature [rows] f32
//   token [rows] i32; log_prob [rows] f32, log(w_token / Σ_j w_j)
//
// A token of no weight is never drawn. A row of -infinity and NaNs gives its first -infinity, and -1 where there is
// none; log_prob is 0 then.
#pragma once

#include "ops/exec.h"

namespace ft {

struct sample_args {
  tensor token;
  tensor log_prob;
  tensor x;
  tensor uniform;
  tensor temperature;
};

namespace ops {
void sample(exec&, const sample_args&);
}

}  // namespace ft
