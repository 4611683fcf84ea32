// top_k: the k largest elements of each row, the largest first and of equal ones the lower index first, and what makes
// log-probabilities of them
//
//   value[r, j] = x[r, index[r, j]]
//   log_sum[r]  = log Σ_i exp(x[r, i] / t - max_i x[r, i] / t), t = temperature[r], or 1 where there is none
//
//   x       [rows, width] f32, the last axis dense
//   value   [rows, k] f32, packed; index [rows, k] i32, packed; 1 <= k <= most_top_k
//   log_sum, temperature [rows] f32
//
// So, at temperature 1, log_softmax(x)[r, index[r, j]] is value[r, j] - value[r, 0] - log_sum[r], to the bit where
// log_softmax is computed in float32. NaNs are passed over, but log_sum is NaN then; a row with fewer than k numbers
// ends in elements of index -1 and value -infinity. The log_sum of a row that holds nothing but -infinity may be
// anything.
#pragma once

#include "decode/device_choice.h"
#include "ops/exec.h"

namespace ft {

struct top_k_args {
  tensor value;
  tensor index;
  tensor log_sum;
  tensor x;
  tensor temperature = {};  // may be null
};

namespace ops {
void top_k(exec&, const top_k_args&);
}

}  // namespace ft
