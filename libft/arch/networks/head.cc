#include "arch/networks/head.h"

#include "arch/weights/weight_share.h"
#include "ops/elementwise.h"

namespace ft::arch {

void head::share_out(int64_t count, const io::rank_share& share) {
  if (share.tensor_parallel == 1) return;
  columns = {0};
  for (int rank = 0; rank < share.tensor_parallel; ++rank)
    columns.push_back(vocabulary_of(rank, share.tensor_parallel, count).end);
}

tensor head::forward(nn::run& run, const tensor& rows, const tensor& out) const {
  const int64_t width = columns.empty() ? output.out_features() : columns.back();
  const tensor logits = out ? out : run.activations.make(dtype::f32, {rows.dim(0), width});
  arena::scope scope(run.activations);
  tensor x = rows;
  if (dense) x = dense->forward(run, x, activation);
  if (norm) norm.forward(run, x, x);
  if (scale != 1) {
    const tensor scaled = run.make({x.dim(0), x.dim(1)});
    ops::scale(run.ex, {.out = scaled, .x = x, .scale = scale});
    x = scaled;
  }
  if (columns.empty()) {
    output.forward(run, x, logits);
  } else {
    FT_CHECK(run.num_tensor_ranks() + 1 == static_cast<int>(columns.size()));
    run.tensor_ranks->all_gather(run.ex, output.logits(run, x), logits, columns);
  }
  if (softcap != 0) ops::scale(run.ex, {.out = logits, .x = logits, .softcap = softcap});
  return logits;
}

}  // namespace ft::arch
