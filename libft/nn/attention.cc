#include "nn/attention.h"

#include "ops/op_table.h"

namespace ft::nn {

void attention::forward(run& run, const ragged_batch& batch, const context& context, const tensor& x, const tensor& out,
                        const tensor& residual) const {
  arena::scope scope(run.activations);
  const int64_t query_end = num_heads * head_dim, key_end = query_end + num_kv_heads * head_dim;
  const tensor projected = query_key_value.forward(run, x);
  const tensor query = projected.slice(1, 0, query_end).split_last(num_heads);
  const tensor key = projected.slice(1, query_end, key_end).split_last(num_kv_heads);
  const tensor value = projected.slice(1, key_end, projected.dim(1)).split_last(num_kv_heads);

  if (query_norm) query_norm.forward(run, query, query);
  if (key_norm) key_norm.forward(run, key, key);
  const tensor attended = run.make({x.dim(0), num_heads, head_dim});
  if (context.cache) {
    ops::paged_self_attention(run.ex,
                              {.rotary_table = context.rotary_table,
                               .style = context.style,
                               .keys = {.key = key, .value = value, .slots = batch.slots, .pages = *context.cache},
                               .attention = {.out = attended,
                                             .query = query,
                                             .pages = *context.cache,
                                             .page_table = batch.page_table,
                                             .row_offsets = batch.row_offsets,
                                             .context_lengths = batch.context_lengths,
                                             .options = options,
                                             .shared = batch.shared}});
  } else {
    if (context.rotary_table)  // queries and keys stand side by side: one call turns both
      ops::rotary(run.ex, {.x = projected.slice(1, 0, key_end).split_last(num_heads + num_kv_heads),
                           .table = context.rotary_table,
                           .style = context.style});
    ops::attention(run.ex, {.out = attended,
                            .query = query,
                            .key = key,
                            .value = value,
                            .row_offsets = batch.row_offsets,
                            .causal = causal,
                            .options = options});
  }
  output.forward(run, attended.reshape({x.dim(0), query_end}), out, activation_kind::none, residual);
}

}  // namespace ft::nn
