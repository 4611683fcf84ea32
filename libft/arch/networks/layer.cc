#include "arch/networks/layer.h"

#include "ops/elementwise.h"

namespace ft::arch {
namespace {

using context = nn::attention::context;

tensor like(nn::run& run, const tensor& hidden) { return run.make({hidden.dim(0), hidden.dim(1)}); }

// x += attention(norm(x)); x += cross(norm(x)); x += mlp(norm(x))
void pre_norm(const layer& l, nn::run& run, const nn::ragged_batch& batch, const context& context,
              const tensor& hidden) {
  const tensor x = like(run, hidden), residual = run.added_once(hidden);
  l.attention_norm.forward(run, hidden, x);
  l.attention.forward(run, batch, context, x, hidden, residual);
  run.join(hidden);
  if (l.cross) {
    l.cross_norm.forward(run, hidden, x);
    l.cross.forward(run, batch, context.cache, x, hidden, residual);
    run.join(hidden);
  }
  l.mlp_norm.forward(run, hidden, x);
  l.mlp.forward(run, x, hidden, residual);
  run.join(hidden);
}

// x = norm(x + attention(x)); x = norm(x + cross(x)); x = norm(x + mlp(x))
void post_norm(const layer& l, nn::run& run, const nn::ragged_batch& batch, const context& context,
               const tensor& hidden) {
  const tensor branch = like(run, hidden), residual = run.added_once(hidden);
  l.attention.forward(run, batch, context, hidden, branch, residual);
  run.join(branch);
  l.attention_norm.forward(run, branch, hidden);
  if (l.cross) {
    l.cross.forward(run, batch, context.cache, hidden, branch, residual);
    run.join(branch);
    l.cross_norm.forward(run, branch, hidden);
  }
  l.mlp.forward(run, hidden, branch, residual);
  run.join(branch);
  l.mlp_norm.forward(run, branch, hidden);
}

// x += norm(attention(norm(x))); x += norm(mlp(norm(x)))
void sandwich(const layer& l, nn::run& run, const nn::ragged_batch& batch, const context& context,
              const tensor& hidden) {
  const tensor x = like(run, hidden), branch = like(run, hidden);
  l.attention_norm.forward(run, hidden, x);
  l.attention.forward(run, batch, context, x, branch);
  run.join(branch);
  l.attention_post_norm.forward(run, branch, branch);
  l.mlp_norm.forward(run, branch, x, /*residual=*/hidden, /*sum=*/hidden);
  l.mlp.forward(run, x, branch);
  run.join(branch);
  l.mlp_post_norm.forward(run, branch, branch);
  ops::add(run.ex, {.out = hidden, .a = hidden, .b = branch});
}

// x += attention(norm(x)) + mlp(norm'(x)); GPT-J's two norms are one. The ranks' parts of both branches are one sum.
void parallel(const layer& l, nn::run& run, const nn::ragged_batch& batch, const context& context,
              const tensor& hidden) {
  const tensor x = like(run, hidden);
  tensor y = x;
  l.attention_norm.forward(run, hidden, x);
  if (l.mlp_norm) {
    y = like(run, hidden);
    l.mlp_norm.forward(run, hidden, y);
  }
  l.attention.forward(run, batch, context, x, hidden, run.added_once(hidden));
  l.mlp.forward(run, y, hidden, /*residual=*/hidden);
  run.join(hidden);
}

// x = norm(x); x += attention(x); x = norm(x); x += mlp(x)
void normed_residual(const layer& l, nn::run& run, const nn::ragged_batch& batch, const context& context,
                     const tensor& hidden) {
  const tensor x = like(run, hidden), residual = run.added_once(x);
  l.attention_norm.forward(run, hidden, x);
  l.attention.forward(run, batch, context, x, hidden, residual);
  run.join(hidden);
  l.mlp_norm.forward(run, hidden, x);
  l.mlp.forward(run, x, hidden, residual);
  run.join(hidden);
}

}  // namespace

void layer::forward(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
  arena::scope scope(run.activations);
  switch (kind) {
    case block_kind::pre_norm:
      return pre_norm(*this, run, batch, context, hidden);
    case block_kind::sandwich:
      return sandwich(*this, run, batch, context, hidden);
    case block_kind::parallel:
      return parallel(*this, run, batch, context, hidden);
    case block_kind::post_norm:
      return post_norm(*this, run, batch, context, hidden);
    case block_kind::normed_residual:
      return normed_residual(*this, run, batch, context, hidden);
  }
}

}  // namespace ft::arch
