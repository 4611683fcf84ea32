#include "runtime/worker/forward_pass.h"

#include <algorithm>

#include "ops/pool.h"
#include "ops/rows.h"

namespace ft::runtime {
namespace {

// Logits of a large vocabulary are computed for this many rows at a time: they are far larger than anything else.
constexpr int64_t logit_rows = 128;

bool per_sequence_head(const arch::model_config& config) {
  return config.head.kind == arch::head_kind::sequence_classification;
}

}  // namespace

void forward_pass::stage(staged_side& s, const forward_side& side) {
  nn::ragged_batch& batch = s.batch;
  batch = {};
  if (side.empty()) return;
  batch.num_tokens = side.num_tokens();
  batch.num_rows = side.num_rows();
  const auto add = [&](tensor& on_device, const std::vector<int32_t>& values) {
    upload_.add(on_device, dtype::i32, {static_cast<int64_t>(values.size())}, values);
  };
  add(batch.token_ids, side.token_ids);
  if (!side.token_type_ids.empty()) add(batch.token_type_ids, side.token_type_ids);
  add(batch.positions, side.positions);
  add(batch.row_offsets, side.row_offsets);
}

void forward_pass::prepare(nn::run& run, const forward_plan& plan) {
  upload_.begin();
  upload_.next_side();
  stage(input_, plan.input);
  stage(target_, plan.target);
  upload_.place();

  const uint64_t before = run.activations.version() + run.ex.scratch.version();
  place_embeddings(run, input_, plan.input);
  const nn::ragged_batch& batch = input_.batch;
  const stack_shape shape{.tokens = batch.num_tokens,
                          .rows = batch.num_rows,
                          .embeds = batch.embedded.empty() ? std::nullopt : std::optional(input_.embedded.rows.type),
                          .type_ids = static_cast<bool>(batch.token_type_ids)};
  recorded_ = stacks_.prepare(run, upload_.version(), shape, [&](nn::run& r) { return first_stack(r); });
  // Where more memory was taken, it lies elsewhere when the pass begins.
  if (run.activations.version() + run.ex.scratch.version() != before) recorded_ = nullptr;
}

void forward_pass::compute(nn::run& run, const forward_plan& plan, forward_caller* caller) {
  upload_.upload(run.ex);
  place_embeddings(run, input_, plan.input);
  fill_embeddings(run, input_, plan.input, caller);
  const tensor states = recorded_ ? recorded_->replay(run) : first_stack(run);
  if (!config_.is_encoder_decoder) {
    outputs(run, plan, input_.batch, states, caller);
  } else {
    if (caller && plan.wanted.encoder_hidden) caller->take(run, forward_output::encoder_hidden, 0, states);
    if (caller && plan.wanted.embedding)
      caller->take(run, forward_output::embedding, 0, pool(run, plan, input_.batch, states));
    if (!plan.target.empty()) {
      place_embeddings(run, target_, plan.target);
      fill_embeddings(run, target_, plan.target, caller);
      target_.batch.encoder_states = states;
      target_.batch.encoder_row_offsets = input_.batch.row_offsets;
      outputs(run, plan, target_.batch, network_.hidden(run, target_.batch), caller);
    }
  }
  if (caller) caller->end(run);
}

// The states of the only stack, or of the encoder.
tensor forward_pass::first_stack(nn::run& run) {
  return config_.is_encoder_decoder ? network_.encode(run, input_.batch) : network_.hidden(run, input_.batch);
}

// Where the embeddings of a side will lie; the same place whenever the pass is begun.
void forward_pass::place_embeddings(nn::run& run, staged_side& s, const forward_side& side) {
  if (side.embedded == embedded_by::nothing || !network_.is_first_stage()) return;
  const dtype type = side.embedded == embedded_by::plan ? dtype::f32 : side.embedding_type;
  s.embedded.rows = run.activations.make(type, {side.num_tokens(), config_.output_size()});
  s.batch.embedded = {&s.embedded, 1};
}

void forward_pass::fill_embeddings(nn::run& run, const staged_side& s, const forward_side& side,
                                   forward_caller* caller) {
  if (s.batch.embedded.empty()) return;
  const tensor& rows = s.embedded.rows;
  if (side.embedded == embedded_by::plan) {
    run.ex.upload(rows.data, side.embeddings.data(), side.embeddings.size() * sizeof(float));
    return;
  }
  if (caller) caller->give(run, &s == &target_, rows);
  if (!run.tensor_ranks) return;
  if (run.tensor_rank() > 0) return void(run.tensor_ranks->receive(run.ex, rows, 0));
  for (int other = 1; other < run.num_tensor_ranks(); ++other) run.tensor_ranks->send(run.ex, rows, other, false);
}

// An output [as `shape`, which has no memory] that all ranks of the last stage make and rank 0's caller takes.
template <class Make>
void forward_pass::deliver(nn::run& run, forward_output what, int64_t first, const tensor& shape,
                           forward_caller* caller, Make&& make) {
  const arena::scope scope(run.activations);
  tensor made;
  if (network_.is_last_stage()) made = make();
  if (run.tensor_rank() > 0) return;
  if (run.num_stages() > 1) {
    if (network_.is_last_stage()) run.send(made, 0);
    if (network_.is_first_stage()) {
      made = run.activations.make(shape.type, {shape.dim(0), shape.dim(1)});
      run.receive(made, run.num_stages() - 1);
    }
  }
  if (caller) caller->take(run, what, first, made);
}

void forward_pass::outputs(nn::run& run, const forward_plan& plan, const nn::ragged_batch& batch, const tensor& hidden,
                           forward_caller* caller) {
  const int64_t width = config_.output_size();
  if (plan.wanted.hidden)
    deliver(run, forward_output::hidden, 0, {nullptr, run.activation_type, {batch.num_tokens, width}}, caller,
            [&] { return hidden; });
  if (plan.wanted.embedding && !config_.is_encoder_decoder)
    deliver(run, forward_output::embedding, 0, {nullptr, dtype::f32, {batch.num_rows, width}}, caller,
            [&] { return pool(run, plan, batch, hidden); });
  if (plan.wanted.pooled)
    deliver(run, forward_output::pooled, 0, {nullptr, run.activation_type, {batch.num_rows, width}}, caller,
            [&] { return network_.pooled(run, first_tokens(run, batch, hidden)); });
  if (plan.wanted.logits) logits(run, batch, hidden, caller);
}

void forward_pass::logits(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden, forward_caller* caller) {
  if (per_sequence_head(config_)) {
    deliver(run, forward_output::logits, 0, {nullptr, dtype::f32, {batch.num_rows, config_.head.num_labels}}, caller,
            [&] { return network_.logits(run, first_tokens(run, batch, hidden)); });
    return;
  }
  for (int64_t begin = 0; begin < batch.num_tokens; begin += logit_rows) {
    const int64_t end = std::min(begin + logit_rows, batch.num_tokens);
    deliver(run, forward_output::logits, begin, {nullptr, dtype::f32, {end - begin, config_.logits_size()}}, caller,
            [&] { return network_.logits(run, hidden.slice(0, begin, end)); });
  }
}

tensor forward_pass::pool(nn::run& run, const forward_plan& plan, const nn::ragged_batch& batch,
                          const tensor& hidden) const {
  const tensor rows = run.activations.make(dtype::f32, {batch.num_rows, hidden.dim(1)});
  ops::pool(
      run.ex,
      {.out = rows, .x = hidden, .row_offsets = batch.row_offsets, .kind = plan.pooling, .normalize = plan.normalize});
  return rows;
}

tensor forward_pass::first_tokens(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) const {
  const tensor out = run.make({batch.num_rows, hidden.dim(1)});
  ops::gather_rows(run.ex, {.out = out, .x = hidden, .index = batch.row_offsets.slice(0, 0, batch.num_rows)});
  return out;
}

}  // namespace ft::runtime
