#include "runtime/worker/worker.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "core/status.h"
#include "ops/beams.h"
#include "ops/kv_cache.h"
#include "ops/log_softmax.h"
#include "ops/rows.h"

namespace ft::runtime {
namespace {

// In every layer.
void copy_in_layers(nn::run& run, const kv_storage& pages, const tensor& from, const tensor& to, const tensor& tokens) {
  ops::kv_copy(run.ex, {.pages = pages.layers().front(),
                        .from = from,
                        .to = to,
                        .tokens = tokens,
                        .layers = static_cast<int64_t>(pages.layers().size()),
                        .layer_bytes = pages.layer_bytes()});
}

// [heads, tokens, head_dim] as [tokens, heads, head_dim]
tensor by_token(tensor t) {
  std::swap(t.shape[0], t.shape[1]);
  std::swap(t.stride[0], t.stride[1]);
  return t;
}

void grow(buffer& b, backend& device, int64_t elements) {
  const size_t bytes = bytes_of(dtype::f32, elements);
  if (bytes > b.bytes()) b = buffer(device.transfer_memory(), bytes);
}

}  // namespace

worker::worker(const arch::model_config& config, std::unique_ptr<arch::network> network,
               std::unique_ptr<executor> where, const kv_layout& layout)
    : config_(config),
      layout_(layout),
      where_(std::move(where)),
      network_(std::move(network)),
      forward_(config_, *network_, *where_->device_memory()) {}

int64_t worker::page_bytes() const {
  return static_cast<int64_t>(kv_storage::bytes_per_page(device(), layout_, network_->num_layers()));
}

rank_info worker::info() const {
  const io::rank_share& share = network_->share();
  const peers& others = where_->others();
  const communicator* any = others.tensor_ranks ? others.tensor_ranks : others.stages;
  return {.device = device().name(),
          .tensor_rank = share.tensor_rank,
          .pipeline_stage = share.pipeline_stage,
          .first_layer = network_->first_layer(),
          .num_layers = network_->num_layers(),
          .num_kv_heads = network_->num_kv_heads(),
          .weight_bytes = network_->weight_bytes(),
          .transport = any ? any->transport() : ""};
}

void worker::open(uint64_t session, const session_memory& needs) {
  auto opened = std::make_unique<open_session>(device(), *where_->device_memory(), layout_, network_->num_layers(),
                                               needs, spare_pages());
  std::lock_guard lock(sessions_mutex_);
  sessions_[session] = std::move(opened);
}

void worker::close(uint64_t session) noexcept {
  come_to_rest(session);
  std::lock_guard lock(sessions_mutex_);
  sessions_.erase(session);
}

open_session& worker::session_at(uint64_t session) {
  std::lock_guard lock(sessions_mutex_);
  const auto found = sessions_.find(session);
  FT_CHECK(found != sessions_.end());
  return *found->second;
}

void worker::come_to_rest(uint64_t session) noexcept {
  try {
    for (arrivals& a : session_at(session).results) a.wait();
  } catch (const error&) {  // it is not open, or the device is broken: nothing will arrive any more
  }
}

void worker::forget_recordings() {
  where_->compute([&](nn::run&) {
    forward_.forget_recordings();
    std::lock_guard lock(sessions_mutex_);
    for (auto& [id, s] : sessions_) {
      s->stacks.clear();
      s->samplings.clear();
    }
  });
}

step_inputs::padding worker::padding_for(const open_session& s, const step_plan& plan) const {
  if (spare_pages() == 0 || !plan.only_decodes() || plan.reorders_beams()) return {};
  return {padded_rows(plan.num_rows()), s.padding_page};
}

void worker::expect_results(nn::run& run, open_session& s, const step_plan& plan) {
  arrivals& to = s.results[static_cast<size_t>(plan.slot)];
  to.wait();
  if (!to.arrived) to.arrived = device().mark(run.ex.stream);
  to.shape = plan.sampling.shape;
  to.num_scored = plan.scored_ids.size();
  grow(to.whole, device(), to.shape.rows_with(&use_properties::to_host).size() * config_.tokens.vocab_size);
  grow(to.chosen, device(), choice_layout(to.shape).size);
  grow(to.scored, device(), static_cast<int64_t>(to.num_scored));
}

void worker::prepare(const step_plan& plan) {
  open_session& s = session_at(plan.session);
  stack_ = nullptr;
  sampling_ = nullptr;
  where_->compute([&](nn::run& run) {
    expect_results(run, s, plan);
    if (!plan.has_rows()) return;
    s.inputs.stage(s.upload, plan, s.pages, padding_for(s, plan), config_.tokens.vocab_size);
    s.inputs.batch.chosen = s.chosen;
    if (plan.scored.empty()) find_recordings(run, s, plan);
  });
  const auto pass = [&](nn::run& run) { run_step(run, s, plan); };
  if (!where_->rehearse(pass)) return;
  stack_ = nullptr;  // they name memory as it was
  sampling_ = nullptr;
  where_->rehearse(pass);
}

void worker::find_recordings(nn::run& run, open_session& s, const step_plan& plan) {
  const uint64_t before = run.activations.version() + run.ex.scratch.version();
  const tensor logits = place_logits(run, s);
  {
    arena::scope scope(run.activations);
    place_reordered(run, s, plan);
    if (plan.only_decodes())
      stack_ = s.stacks.prepare(run, s.upload.version(), stack_shape(s, plan), [&](nn::run& r) {
        run_stack(r, s, plan, {}, logits);
        return open_session::nothing{};
      });
  }
  if (logits)
    sampling_ =
        s.samplings.prepare(run, s.upload.version(), {plan.sampling.shape, plan.reorders_beams()}, [&](nn::run& r) {
          run_sampling(r, s, logits);
          return open_session::nothing{};
        });
  // Where one took more memory, it lies elsewhere when the pass begins.
  if (run.activations.version() + run.ex.scratch.version() != before) stack_ = nullptr, sampling_ = nullptr;
}

decode_shape worker::stack_shape(const open_session& s, const step_plan& plan) const {
  decode_shape shape = plan.shape();
  shape.rows = s.inputs.batch.num_rows;
  shape.logits_rows = num_logits(s);
  return shape;
}

// Rows of logits that are computed, those that nobody asks for among them.
int64_t worker::num_logits(const open_session& s) { return s.inputs.logits_tokens ? s.inputs.logits_tokens.size() : 0; }

// Where the stack leaves the logits and sampling finds them: the first that a step takes, so that it is the same place
// for all that are recorded. Null on all stages but the last.
tensor worker::place_logits(nn::run& run, const open_session& s) const {
  const int64_t rows = num_logits(s);
  return rows > 0 && network_->is_last_stage() ? run.activations.make(dtype::f32, {rows, config_.tokens.vocab_size})
                                               : tensor();
}

void worker::launch(const step_plan& plan, const cancellation& cancel) {
  open_session& s = session_at(plan.session);
  launch_pass(cancel, [&](nn::run& run) {
    run_step(run, s, plan);
    arrivals& to = s.results[static_cast<size_t>(plan.slot)];
    if (to.arrived) to.arrived->move(run.ex.stream);
    to.under_way = to.arrived != nullptr;
    steps_replayed_ += stack_ && sampling_;
  });
}

void worker::prepare(const forward_plan& plan, forward_caller* caller) {
  where_->compute([&](nn::run& run) { forward_.prepare(run, plan); });
  const auto pass = [&](nn::run& run) { forward_.compute(run, plan, caller); };
  if (!where_->rehearse(pass)) return;
  forward_.leave_recording();
  where_->rehearse(pass);
}

void worker::launch(const forward_plan& plan, forward_caller* caller) {
  launch_pass({}, [&](nn::run& run) { forward_.compute(run, plan, caller); });
}

// Whoever waits for this rank is told when it fails.
template <class Pass>
void worker::launch_pass(const cancellation& cancel, Pass&& pass) {
  try {
    where_->compute(pass, cancel.asked, cancel.data);
  } catch (const error& e) {
    where_->others().abort(e.code(), e.what());
    throw;
  } catch (const std::bad_alloc&) {
    where_->others().abort(FT_ERROR_OUT_OF_MEMORY, "another rank of the model ran out of memory");
    throw;
  } catch (const std::exception& e) {
    where_->others().abort(FT_ERROR_INTERNAL, e.what());
    throw;
  }
}

void worker::run_step(nn::run& run, open_session& s, const step_plan& plan) {
  if (!plan.sources.empty()) encode_sources(run, s, plan.sources);
  if (plan.has_rows()) compute_rows(run, s, plan);
}

step_results worker::results(uint64_t session, int32_t slot) {
  arrivals& from = session_at(session).results[static_cast<size_t>(slot)];
  from.wait();
  return {from.shape, config_.tokens.vocab_size, from.whole.as<float>(), from.chosen.as<int32_t>(),
          std::span(from.scored.as<const float>(), from.num_scored)};
}

void worker::encode_sources(nn::run& run, const open_session& s, const encoder_plan& plan) {
  arena::scope scope(run.activations);
  nn::ragged_batch batch;
  batch.num_tokens = plan.num_tokens();
  batch.num_rows = plan.num_rows();
  batch.embedded = upload_embedded(run, plan.embedded);
  staged_.clear();
  for (const auto* array : {&plan.token_ids, &plan.positions, &plan.slots, &plan.row_offsets})
    staged_.insert(staged_.end(), array->begin(), array->end());
  const tensor all = upload_i32(run, staged_);
  const int64_t n = batch.num_tokens;
  batch.token_ids = all.slice(0, 0, n);
  batch.positions = all.slice(0, n, 2 * n);
  const tensor slots = all.slice(0, 2 * n, 3 * n);
  batch.row_offsets = all.slice(0, 3 * n, all.size());
  network_->keep_cross(run, network_->encode(run, batch), slots, s.pages.layers());
}

std::span<const nn::embedded_rows> worker::upload_embedded(nn::run& run, const embedded_tokens& given) {
  embedded_.clear();
  if (given.empty()) return {};
  const int64_t width = config_.output_size();
  const tensor all = run.activations.make(dtype::f32, {static_cast<int64_t>(given.values.size()) / width, width});
  run.ex.upload(all.data, given.values.data(), given.values.size() * sizeof(float));
  int64_t first = 0;
  for (const embedded_span& span : given.spans) {
    embedded_.push_back({span.first_token, all.slice(0, first, first + span.count)});
    first += span.count;
  }
  return embedded_;
}

// Copies the pages that are about to be written to and are shared.
void worker::copy_pages(nn::run& run, const open_session& s, const step_plan& plan) {
  if (plan.copy_from.empty()) return;
  arena::scope scope(run.activations);
  staged_.clear();
  for (const auto* array : {&plan.copy_from, &plan.copy_to, &plan.copy_tokens})
    staged_.insert(staged_.end(), array->begin(), array->end());
  const tensor all = upload_i32(run, staged_);
  const int64_t n = all.size() / 3;
  copy_in_layers(run, s.pages, all.slice(0, 0, n), all.slice(0, n, 2 * n), all.slice(0, 2 * n, 3 * n));
}

// Where the page tables and slots of beams that are yet to be chosen will lie.
void worker::place_reordered(nn::run& run, open_session& s, const step_plan& plan) {
  if (!plan.reorders_beams()) return;
  const int64_t rows = plan.num_rows();
  s.inputs.batch.page_table = run.activations.make(dtype::i32, {rows, plan.table_width()});
  s.inputs.batch.slots = run.activations.make(dtype::i32, {rows});
  s.inputs.sampling.scores = s.beam_scores.slice(0, 0, rows);
}

// For beams whose parents the step before has chosen: finds out their pages and copies those that several go on from.
void worker::reorder_beams(nn::run& run, open_session& s, const step_plan& plan) {
  if (!plan.reorders_beams()) return;
  const int64_t rows = plan.num_rows(), width = plan.table_width();
  arena::scope scope(run.activations);
  staged_.clear();
  for (const auto* array : {&plan.place, &plan.first, &plan.positions, &plan.fresh, &plan.page_table})
    staged_.insert(staged_.end(), array->begin(), array->end());
  const tensor given = upload_i32(run, staged_);
  const auto make = [&] { return run.activations.make(dtype::i32, {rows}); };
  const tensor from = make(), to = make(), tokens = make();
  ops::reorder_beams(run.ex, {.new_table = s.inputs.batch.page_table,
                              .slots = s.inputs.batch.slots,
                              .from = from,
                              .to = to,
                              .tokens = tokens,
                              .score = s.inputs.sampling.scores,
                              .chosen = s.chosen,
                              .place = given.slice(0, 0, rows),
                              .first = given.slice(0, rows, 2 * rows),
                              .positions = given.slice(0, 2 * rows, 3 * rows),
                              .fresh = given.slice(0, 3 * rows, 4 * rows),
                              .page_table = given.slice(0, 4 * rows, given.size()).reshape({rows, width}),
                              .page_tokens = s.pages.page_tokens()});
  copy_in_layers(run, s.pages, from, to, tokens);
}

// Writes the prefixes of requests that begin in this step: of the values [layers, 2, heads, length, head_dim], those of
// the rank's layers and heads.
void worker::write_prefixes(nn::run& run, const open_session& s, const step_plan& plan) {
  const int64_t heads = config_.attention.num_kv_heads, head_dim = layout_.head_dim, own = layout_.num_kv_heads;
  const int64_t first_head = network_->first_kv_head();
  const float* values = plan.prefix_values.data();
  for (const prefix_span& prefix : plan.prefixes) {
    arena::scope scope(run.activations);
    const int64_t length = prefix.length, head_size = length * head_dim;
    const tensor given = run.activations.make(dtype::f32, {2 * own, length, head_dim});
    const tensor slots = upload_i32(
        run, std::span(plan.prefix_slots).subspan(static_cast<size_t>(prefix.first_slot), static_cast<size_t>(length)));
    for (size_t i = 0; i < s.pages.layers().size(); ++i) {
      const float* layer = values + (network_->first_layer() + static_cast<int64_t>(i)) * 2 * heads * head_size;
      for (int64_t part = 0; part < 2; ++part)  // keys, values
        run.ex.upload(given.as<float>() + part * own * head_size, layer + (part * heads + first_head) * head_size,
                      static_cast<size_t>(own * head_size) * sizeof(float));
      ops::kv_write(run.ex, {.key = by_token(given.slice(0, 0, own)),
                             .value = by_token(given.slice(0, own, 2 * own)),
                             .slots = slots,
                             .pages = s.pages.layers()[i]});
    }
    values += config_.num_layers * 2 * heads * head_size;
  }
}

void worker::compute_rows(nn::run& run, open_session& s, const step_plan& plan) {
  const tensor scored =
      plan.scored.empty() ? tensor() : run.activations.make(dtype::f32, {static_cast<int64_t>(plan.scored_ids.size())});
  const tensor logits = place_logits(run, s);
  const arena::position begin = run.activations.where();
  place_reordered(run, s, plan);
  // Before the upload: as soon as its numbers are there, a GPU may read the keys of earlier steps (attention/).
  copy_pages(run, s, plan);
  reorder_beams(run, s, plan);
  write_prefixes(run, s, plan);
  s.upload.upload(run.ex);
  s.inputs.batch.embedded = upload_embedded(run, plan.embedded);
  if (stack_)
    stack_->replay(run);
  else
    run_stack(run, s, plan, scored, logits);
  run.activations.go_to(begin);

  const arrivals& to = s.results[static_cast<size_t>(plan.slot)];
  const tensor made = sample(run, s, to.shape, logits);
  share_results(run, s, to.shape, made, scored);
  if (run.tensor_rank() > 0 || run.stage() > 0) return;
  const auto download = [&](const buffer& host, const tensor& from) {
    if (from && from.size() > 0) run.ex.download_later(host.data(), from.data, bytes_of(from.type, from.size()));
  };
  download(to.scored, scored);
  if (made) download(to.whole, made.slice(0, 0, to.shape.rows_with(&use_properties::to_host).size()));
  download(to.chosen, s.chosen.slice(0, 0, choice_layout(to.shape).size));
}

// The rows of logits, with what became of them on the way; null where there are none. The last stage has them, and its
// first tensor rank alone chooses, so that what is chosen is chosen once. The other stages have room for what the host
// is to see.
tensor worker::sample(nn::run& run, open_session& s, const sampling_shape& shape, const tensor& logits) {
  if (shape.total() == 0) return {};
  if (!network_->is_last_stage())
    return run.activations.make(dtype::f32,
                                {shape.rows_with(&use_properties::to_host).size(), config_.tokens.vocab_size});
  if (sampling_)
    sampling_->replay(run);
  else
    run_sampling(run, s, logits);
  return logits;
}

// What the first tensor rank of the last stage has goes to all ranks that need it: what was chosen to everyone, since
// the next step may go on from it; whole rows and scores to rank 0, for the host.
void worker::share_results(nn::run& run, const open_session& s, const sampling_shape& shape, const tensor& made,
                           const tensor& scored) {
  const int last = run.num_stages() - 1;
  const auto hand = [&](const tensor& x, int stage) {
    if (!x || x.size() == 0) return;
    if (run.stage() == last) run.send(x, stage);
    if (run.stage() == stage) run.receive(x, last);
  };
  const tensor chosen = shape.total() == 0 ? tensor() : s.chosen.slice(0, 0, choice_layout(shape).size);
  if (chosen && chosen.size() > 0 && run.stage() == last)
    for (int other = 1; other < run.num_tensor_ranks(); ++other) {
      if (run.tensor_rank() == 0) run.tensor_ranks->send(run.ex, chosen, other, false);
      if (run.tensor_rank() == other) run.tensor_ranks->receive(run.ex, chosen, 0);
    }
  for (int stage = 0; stage < last; ++stage) hand(chosen, stage);
  if (last == 0 || run.tensor_rank() > 0) return;
  if (made) hand(made.slice(0, 0, shape.rows_with(&use_properties::to_host).size()), 0);
  hand(scored, 0);
}

// Up to the logits that are wanted: their product is the last of the stack's, since a device may fetch its weights
// while the kernels before it end.
void worker::run_stack(nn::run& run, open_session& s, const step_plan& plan, const tensor& scored,
                       const tensor& logits) {
  const tensor hidden = network_->hidden(run, s.inputs.batch);
  if (!hidden) return;  // not the last stage
  if (scored) score_prompts(run, s, plan, hidden, scored);
  if (!logits) return;
  const tensor last = run.make({logits.dim(0), hidden.dim(1)});
  ops::gather_rows(run.ex, {.out = last, .x = hidden, .index = s.inputs.logits_tokens});
  network_->logits(run, last, logits);
}

// What is chosen of the logits, which are edited on the way.
void worker::run_sampling(nn::run& run, open_session& s, const tensor& logits) {
  if (run.tensor_rank() > 0) return;
  choose(run, logits.slice(0, 0, s.inputs.sampling.shape.total()), s.chosen, s.inputs.sampling);
}

// scored[i]: the log-probability of the token that follows.
void worker::score_prompts(nn::run& run, const open_session& s, const step_plan& plan, const tensor& hidden,
                           const tensor& scored) {
  for (const scored_span& span : plan.scored) {
    for (int64_t begin = 0; begin < span.count; begin += scored_block) {
      const int64_t count = std::min<int64_t>(scored_block, span.count - begin);
      arena::scope scope(run.activations);
      const int64_t first = span.first_token + begin, score = span.first_score + begin;
      const tensor log_probs = network_->logits(run, hidden.slice(0, first, first + count));
      ops::log_softmax(run.ex, {.out = log_probs, .x = log_probs});
      ops::gather_rows(run.ex, {.out = scored.slice(0, score, score + count).reshape({count, 1}),
                                .x = log_probs.reshape({log_probs.size(), 1}),
                                .index = s.inputs.scored_at.slice(0, score, score + count)});
    }
  }
}

}  // namespace ft::runtime
