// sample: a draw from softmax(x / t) of each row by its cumulative distribution
//
//   w_i      = exp(x[r, i] / t - max_j x[r, j] / t), t = temperature[r]; 0 where x[r, i] is NaN or beyond the threshold
//   token[r] = the first i with Σ_{j <= i} w_j > uniform[r] Σ_j w_j, up to rounding
//
//   x [rows, width] f32, the last axis dense; uniform [rows] f64, 0 <= uniform < 1; temperature [rows] f32
//   least [rows] f32, last [rows] i32: how far a row may be drawn from (ops/sampling_threshold.h); both null: all of it
//   token [rows] i32; log_prob [rows] f32, log(w_token / Σ_j w_j); logit [rows] f32, x[r, token]
//
// A token of no weight is never drawn. A row of -infinity and NaNs gives its first -infinity, and -1 where there is
// none; log_prob is 0 then, and logit what x has there, or NaN.
#pragma once

#include "ops/exec.h"

namespace ft {

struct sample_args {
  tensor token;
  tensor log_prob;
  tensor logit;
  tensor x;
  tensor uniform;
  tensor temperature;
  tensor least = {};
  tensor last = {};
};

namespace ops {
void sample(exec&, const sample_args&);
}

}  // namespace ft
