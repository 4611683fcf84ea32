#include "runtime/request.h"

#include <limits>

#include "ops/top_k.h"

namespace ft::runtime {

request::request(std::shared_ptr<session> owner, const request_plan& plan, decode::options settings,
                 request_callbacks callbacks, soft_prompt soft)
    : owner_(std::move(owner)),
      settings_(std::move(settings)),
      callbacks_(std::move(callbacks)),
      source_(plan.source),
      prompt_length_(static_cast<int64_t>(plan.prompt.size())),
      last_length_(plan.last_length),
      outputs_(static_cast<size_t>(settings_.num_return_sequences)),
      num_outputs_(1),
      sequences_(static_cast<size_t>(settings_.width())),
      most_pages_(plan.most_pages),
      soft_(std::move(soft)) {
  const int64_t most_new = last_length_ - prompt_length_;
  for (output& o : outputs_) {
    o.tokens.reserve(static_cast<size_t>(most_new));
    if (keeps_logprobs()) o.logprobs.reserve(static_cast<size_t>(most_new));
    o.score = std::numeric_limits<float>::quiet_NaN();
  }
  if (keeps_prompt_logprobs()) prompt_logprobs_.assign(plan.prompt.size(), std::numeric_limits<float>::quiet_NaN());
  if (settings_.uses_beams()) {
    beams_ = std::make_unique<decode::beam_search>(settings_, most_new);
    next_.resize(sequences_.size());
  }
  for (auto* rows : {&sequences_, &next_})
    for (sequence& s : *rows) {
      s.reserve(last_length_, plan.row_pages);
      if (keeps_logprobs()) s.logprobs.reserve(static_cast<size_t>(most_new));
    }
  sequences_[0].tokens.assign(plan.prompt.begin(), plan.prompt.end());
  pinned_pages_.reserve(static_cast<size_t>(plan.row_pages));
  source_pages_.reserve(static_cast<size_t>(plan.source_pages));
}

logits_use request::use_of_logits() const {
  const bool as_they_are = !settings_.changes_logits() && !callbacks_.on_logits && !callbacks_.constrain_logits;
  if (settings_.uses_beams()) {
    const bool from_few = as_they_are && !settings_.do_sample && settings_.beam_candidates() <= most_top_k;
    return from_few ? logits_use::candidates : logits_use::log_probabilities;
  }
  return as_they_are && settings_.needs_best_only() ? logits_use::best : logits_use::logits;
}

size_t request::num_outputs() const {
  std::lock_guard lock(mutex_);
  return num_outputs_;
}

void request::fail_index(size_t index) const {
  fail(FT_ERROR_INVALID_ARGUMENT, "sequence ", index, " was asked for; the request has ", num_outputs_);
}

}  // namespace ft::runtime
