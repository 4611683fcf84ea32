// Contract checks of norm.
#include "ops/norm.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void norm(exec& ex, const norm_args& a) {
  const contract c("norm");
  c.require(a.x.rank == 2 || a.x.rank == 3, "x is neither [rows, width] nor [rows, heads, width]");
  const dtype type = c.activations("x", a.x);
  const auto like_x = [&](const char* argument, const tensor& t) {
    if (a.x.rank == 2)
      c.dense_rows(argument, t, type, {a.x.shape[0], a.x.shape[1]});
    else
      c.dense_rows(argument, t, type, {a.x.shape[0], a.x.shape[1], a.x.shape[2]});
  };
  like_x("x", a.x);
  like_x("out", a.out);
  if (a.residual) like_x("residual", a.residual);
  if (a.sum) like_x("sum", a.sum);
  c.require(a.weight != nullptr, "weight is null");
  ex.ops.norm(ex, a);
}

}  // namespace ft::ops
