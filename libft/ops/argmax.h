// argmax: out[r] = the index of the largest element of x[r], the lowest of equal ones
//
//   x [rows, width] f32, the last axis dense; out [rows] i32
//
// NaNs are passed over; a row of nothing else gives -1.
#pragma once

#include "ops/exec.h"

namespace ft {

struct argmax_args {
  tensor out;
  tensor x;
};

namespace ops {
void argmax(exec&, const argmax_args&);
}

}  // namespace ft
