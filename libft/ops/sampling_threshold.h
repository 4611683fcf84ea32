// sampling_threshold: which elements of each row of logits may be drawn (ops/sample.h): of all, in the order of x / t,
// the larger first and of equal ones the lower index first, as many as are left by
//
//   top-k: those of at least the k-th largest x / t (arXiv:1805.04833);
//   top-p: of these, the fewest first ones whose probabilities, of softmax(x / t) over these, sum to p or more, and the
//          first in any case (the nucleus, arXiv:1904.09751);
//   min-p: of these, those at least p times as probable as the first (arXiv:2407.01082).
//
//   x           [rows, width] f32, the last axis dense
//   value, index [rows, k] and log_sum [rows], the most probable ones, as top_k leaves them at this temperature; where
//               they do not hold all that may be drawn, the whole row is looked at
//   temperature [rows] f32
//   by          [rows, 3] f64: k, 0 is off; p of top-p, 1 is off; p of min-p, 0 is off
//   least       [rows] f32, last [rows] i32: element i may be drawn where x[i] / t > least, or where it is equal and
//               i <= last
//
// NaNs and -infinity are never drawn; what a row of nothing else gets may be anything.
#pragma once

#include "decode/device_choice.h"
#include "ops/exec.h"

namespace ft {

struct sampling_threshold_args {
  tensor least;
  tensor last;
  tensor x;
  tensor value;
  tensor index;
  tensor log_sum;
  tensor temperature;
  tensor by;
};

namespace ops {
void sampling_threshold(exec&, const sampling_threshold_args&);
}

}  // namespace ft
