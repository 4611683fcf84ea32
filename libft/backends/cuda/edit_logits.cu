// edit_logits: a thread an edit.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/launch.h"
#include "core/logit_edit.h"

namespace ft::cuda {
namespace {

constexpr int threads = 256;

// As ft::edited, with every operation rounded by itself.
__device__ float edited_here(float logit, int change, logit_penalties by) {
  if (change == logit_edit::ban) return -INFINITY;
  if (change & 1) logit = logit < 0 ? __fmul_rn(logit, by.repetition) : __fdiv_rn(logit, by.repetition);
  for (int times = 0; times < change / 2; ++times)
    logit = __fsub_rn(logit, __fadd_rn(by.frequency, times == 0 ? by.presence : 0));
  return logit;
}

__global__ void __launch_bounds__(threads)
    edit_elements(row_view<float> x, const logit_edit* edits, const logit_penalties* penalties, int count) {
  await_previous_kernel();
  const int i = blockIdx.x * threads + threadIdx.x;
  if (i >= count) return;
  const logit_edit e = edits[i];
  if (e.row < 0) return;
  float* logit = x.at(e.row, e.token);
  *logit = edited_here(*logit, e.change, penalties[e.row]);
}

}  // namespace

void edit_logits(exec& ex, const edit_logits_args& a) {
  const int64_t count = a.edits.shape[0];
  if (count == 0) return;
  launch_kernel(ex, "edit_logits", {grid_size(ceil_div(count, threads), "edit_logits"), threads}, edit_elements,
                rows_of<float>(a.x), a.edits.as<const logit_edit>(), a.penalties.as<const logit_penalties>(),
                static_cast<int>(count));
}

}  // namespace ft::cuda
