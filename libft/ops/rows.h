// gather_rows: out[i] = x[index[i]]; a negative index gives a row of zeros
//
//   x [rows, width], out [n, width], whose dtypes may differ; index [n] i32
#pragma once

#include "ops/exec.h"

namespace ft {

struct gather_rows_args {
  tensor out;
  tensor x;
  tensor index;
};

namespace ops {
void gather_rows(exec&, const gather_rows_args&);
}

}  // namespace ft
