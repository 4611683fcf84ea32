#include "runtime/queued_step.h"

#include <algorithm>
#include <utility>

#include "core/status.h"

namespace ft::runtime {
namespace {

template <class Condition>
bool all_requests(const queued_step& s, Condition&& holds) {
  return std::ranges::all_of(s.batch.requests(), holds) && std::ranges::all_of(s.sources.requests(), holds);
}

}  // namespace

void queued_step::reserve(const arch::model_config& config, int64_t rows, int64_t tokens) {
  if (config.is_encoder_decoder) sources.reserve(rows);
  batch.reserve(rows, tokens);
  held_.reserve(static_cast<size_t>(rows));
}

void queued_step::launch(model& on, const page_pool& pool, recorded_steps& recorded, const tensor& chosen) {
  const auto all_cancelled = [](void* self) {
    return all_requests(*static_cast<queued_step*>(self), [](const request* r) { return r->cancelled(); });
  };
  wait();
  executor& where = on.compute();
  logits.expect(where.device(), batch.logits().rows(), on.config().tokens.vocab_size);
  where.compute(
      [&](nn::run& run) {
        if (!sources.empty()) sources.compute(run, on.network(), pool);
        logit_results made;
        if (!batch.empty()) {
          // Before the upload: as soon as its numbers are there, a GPU may read the keys of earlier steps (attention/).
          batch.copy_pages(run, pool);
          batch.follow_beams(run, pool, chosen);
          batch.write_prefixes(run, pool);
          nn::ragged_batch ragged = batch.upload(run, pool);
          ragged.chosen = chosen;
          const auto pass = [&](nn::run& r) {
            const tensor hidden = on.network().hidden(r, ragged);
            batch.score_prompts(r, on.network(), hidden);
            return step_logits::compute(r, on.network(), hidden, batch.logits(), batch.scores(), chosen);
          };
          made = batch.only_decodes() ? recorded.compute(run, batch.shape(), pass) : pass(run);
          logits.download(run, made);
        }
        mark_results(run);
      },
      all_cancelled, this);
}

void queued_step::mark_results(nn::run& run) {
  if (results_)
    results_->move(run.ex.stream);
  else
    results_ = run.ex.device.mark(run.ex.stream);
  is_under_way_ = results_ != nullptr;
}

void queued_step::wait() {
  if (std::exchange(is_under_way_, false)) results_->wait();
}

void queued_step::drop() noexcept {
  try {
    wait();
  } catch (const error&) {  // the device is broken: nothing will arrive any more
  }
  clear();
}

void queued_step::clear() {
  batch.clear();
  sources.clear();
  held_.clear();
}

bool queued_step::all_finished() const {
  return all_requests(*this, [](const request* r) { return r->finished(); });
}

}  // namespace ft::runtime
