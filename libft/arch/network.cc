#include "arch/network.h"

#include "arch/weights/weight_share.h"
#include "core/status.h"

namespace ft::arch {

network::network(const model_config& config, const io::rank_share& share, network_parts parts)
    : config_(config), share_(share), parts_(std::move(parts)) {}

// A stage takes hidden states from the one before it and hands them on, and so the decision to give up: who has handed
// it on may leave.
tensor network::states(nn::run& run, const side& of, const nn::ragged_batch& batch) const {
  FT_CHECK(run.num_tensor_ranks() == share_.tensor_parallel && run.num_stages() == share_.pipeline_parallel);
  const tensor hidden = run.make({batch.num_tokens, config_.hidden_size});
  const tensor out = of.projection ? run.make({batch.num_tokens, of.projection.out_features()}) : hidden;
  arena::scope scope(run.activations);
  if (is_first_stage())
    of.embed.forward(run, batch, hidden);
  else
    run.receive(hidden, share_.pipeline_stage - 1);
  of.layers.forward(run, batch, hidden);
  if (!is_last_stage()) run.send(hidden, share_.pipeline_stage + 1);
  run.leave_if_stopped();
  if (!is_last_stage()) return {};
  of.layers.finish(run, hidden);
  if (of.projection) of.projection.forward(run, hidden, out);
  return out;
}

int64_t network::num_kv_heads() const { return kv_heads_of(share_, config_.attention).count(); }
int64_t network::first_kv_head() const { return kv_heads_of(share_, config_.attention).begin; }

int64_t network::first_layer() const { return layers_of(share_, config_.num_layers).begin; }

tensor network::hidden(nn::run& run, const nn::ragged_batch& batch) const { return states(run, parts_.main, batch); }

tensor network::encode(nn::run& run, const nn::ragged_batch& batch) const {
  if (!parts_.encoder) fail(FT_ERROR_INTERNAL, "the model has no encoder");
  const int last = share_.pipeline_parallel - 1;
  if (!is_last_stage()) {
    {
      arena::scope scope(run.activations);
      states(run, *parts_.encoder, batch);
    }
    const tensor encoded = run.make({batch.num_tokens, config_.hidden_size});
    run.receive(encoded, last);
    return encoded;
  }
  const tensor encoded = states(run, *parts_.encoder, batch);
  for (int stage = 0; stage < last; ++stage) run.send(encoded, stage);
  return encoded;
}

void network::keep_cross(nn::run& run, const tensor& states, const tensor& slots,
                         const std::vector<kv_pages>& cache) const {
  if (!parts_.encoder) fail(FT_ERROR_INTERNAL, "the model has no encoder");
  parts_.main.layers.keep_cross(run, states, slots, cache);
}

tensor network::logits(nn::run& run, const tensor& hidden_rows, const tensor& out) const {
  return parts_.head ? parts_.head.forward(run, hidden_rows, out) : tensor();
}

tensor network::pooled(nn::run& run, const tensor& first_tokens) const {
  return parts_.pooler ? parts_.pooler->forward(run, first_tokens, activation_kind::tanh) : tensor();
}

}  // namespace ft::arch
