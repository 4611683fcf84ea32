// edit_logits: a thread an edit; then one a row, for what is left of the late ones.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
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

// The edits of tokens that the host does not know.
struct late_edits {
  const int32_t* chosen;
  const late_edit* of_rows;  // null: there are none
  int32_t* are_joined;       // of each row, whether its token is among the other edits

  __device__ int token(int row) const { return of_rows && of_rows[row].place >= 0 ? chosen[of_rows[row].place] : -1; }
};

__global__ void __launch_bounds__(threads) edit_elements(row_view<float> x, const logit_edit* edits,
                                                         const logit_penalties* penalties, late_edits late, int count) {
  await_previous_kernel();
  const int i = blockIdx.x * threads + threadIdx.x;
  if (i >= count) return;
  logit_edit e = edits[i];
  if (e.row < 0) return;
  if (late.token(e.row) == e.token) {
    e.change = joined(e.change, late.of_rows[e.row].change);
    late.are_joined[e.row] = 1;
  }
  float* logit = x.at(e.row, e.token);
  *logit = edited_here(*logit, e.change, penalties[e.row]);
}

__global__ void __launch_bounds__(threads)
    edit_late(row_view<float> x, const logit_penalties* penalties, late_edits late, int rows) {
  await_previous_kernel();
  const int row = blockIdx.x * threads + threadIdx.x;
  if (row >= rows || late.are_joined[row]) return;
  const int token = late.token(row);
  if (token < 0) return;
  float* logit = x.at(row, token);
  *logit = edited_here(*logit, late.of_rows[row].change, penalties[row]);
}

}  // namespace

void edit_logits(exec& ex, const edit_logits_args& a) {
  const int64_t count = a.edits.shape[0], rows = a.x.shape[0];
  const auto blocks = [](int64_t n) { return grid_size(ceil_div(n, threads), "edit_logits"); };
  const auto x = rows_of<float>(a.x);
  const auto* penalties = a.penalties.as<const logit_penalties>();
  arena::scope scope(ex.scratch);
  late_edits late{a.chosen.as<const int32_t>(), a.late.as<const late_edit>(), nullptr};
  if (a.late) {
    late.are_joined = ex.scratch.make<int32_t>(rows);
    ex.clear(late.are_joined, static_cast<size_t>(rows) * sizeof(int32_t));
  }
  if (count > 0)
    launch_kernel(ex, "edit_logits", {blocks(count), threads}, edit_elements, x, a.edits.as<const logit_edit>(),
                  penalties, late, static_cast<int>(count));
  if (a.late && rows > 0)
    launch_kernel(ex, "edit_logits", {blocks(rows), threads}, edit_late, x, penalties, late, static_cast<int>(rows));
}

}  // namespace ft::cuda
