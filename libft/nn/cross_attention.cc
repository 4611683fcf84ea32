#include "nn/cross_attention.h"

namespace ft::nn {

void cross_attention::forward(run& run, const ragged_batch& batch, const kv_pages* cache, const tensor& x,
                              const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  const tensor queries = query.forward(run, x).split_last(num_heads);
  const tensor attended = run.make({x.dim(0), num_heads, head_dim});
  if (cache) {
    ops::paged_attention(run.ex, {.out = attended,
                                  .query = queries,
                                  .pages = *cache,
                                  .page_table = batch.cross_page_table,
                                  .row_offsets = batch.row_offsets,
                                  .context_lengths = batch.cross_lengths,
                                  .causal = false,
                                  .options = options,
                                  .shared = batch.cross_shared});
  } else {
    const keys_and_values encoded = project(run, batch.encoder_states);
    ops::attention(run.ex, {.out = attended,
                            .query = queries,
                            .key = encoded.key,
                            .value = encoded.value,
                            .row_offsets = batch.row_offsets,
                            .key_row_offsets = batch.encoder_row_offsets,
                            .options = options});
  }
  output.forward(run, attended.reshape({x.dim(0), num_heads * head_dim}), out, activation_kind::none, residual);
}

void cross_attention::keep(run& run, const tensor& states, const tensor& slots, const kv_pages& cache) const {
  arena::scope scope(run.activations);
  const keys_and_values encoded = project(run, states);
  ops::kv_write(run.ex, {.key = encoded.key, .value = encoded.value, .slots = slots, .pages = cache});
}

cross_attention::keys_and_values cross_attention::project(run& run, const tensor& states) const {
  const tensor both = key_value.forward(run, states);
  const int64_t width = num_heads * head_dim;
  return {both.slice(1, 0, width).split_last(num_heads), both.slice(1, width, 2 * width).split_last(num_heads)};
}

}  // namespace ft::nn
