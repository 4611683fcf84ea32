// add: out = a + b; scale: out = softcap(scale * x)
//
//   all [rows, width], rows may be strided; out may be an input. softcap as in attention (0: none). The x and out of
//   scale may have different dtypes.
#pragma once

#include "ops/exec.h"

namespace ft {

struct add_args {
  tensor out;
  tensor a;
  tensor b;
};

struct scale_args {
  tensor out;
  tensor x;
  float scale = 1;
  float softcap = 0;
};

namespace ops {
void add(exec&, const add_args&);
void scale(exec&, const scale_args&);
}  // namespace ops

}  // namespace ft
