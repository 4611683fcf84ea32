#include "runtime/request.h"

#include <limits>

#include "decode/philox.h"
#include "ops/beams.h"
#include "ops/top_k.h"
#include "runtime/session.h"

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

logits_use request::use_of_logits(const sequence& s) const {
  const bool here = needs_logits_here(s);
  if (settings_.uses_beams()) {
    if (here || settings_.do_sample || settings_.beam_candidates() > most_top_k) return logits_use::log_probabilities;
    if (settings_.edits_logits()) return logits_use::beam_candidates;
    return searches_unread() ? logits_use::next_beams : logits_use::candidates;
  }
  if (here) return logits_use::logits;
  if (!settings_.do_sample) return keeps_logprobs() ? logits_use::candidates : logits_use::best;
  if (settings_.samples_all()) return logits_use::sampled;
  return settings_.typical_p == 1 ? logits_use::cut : logits_use::logits;
}

bool request::needs_logits_here(const sequence& s) const {
  if (callbacks_.on_logits || callbacks_.constrain_logits || settings_.is_diverse()) return true;
  if (settings_.forces_token(s.length(), num_new(s))) return true;
  if (live_ < sequences_.size() && settings_.do_sample) return true;  // the others draw from the same row
  // Raw log-probabilities are to the bit what they are in a prompt: they come from the logits before any change, by the
  // operation that a prompt's come from or by its like (ops/top_k.h).
  const bool changes = settings_.edits_logits() || (settings_.do_sample && settings_.temperature != 1);
  const bool by_other_means = !settings_.uses_beams() && settings_.do_sample && settings_.samples_all();
  return settings_.logprobs == decode::logprobs_kind::raw && (changes || by_other_means);
}

bool request::goes_on_unread(const sequence& s) const {
  if (live_ < sequences_.size() || settings_.reads_last_token()) return false;
  switch (use_of_logits(s)) {
    case logits_use::next_beams:
    case logits_use::cut:
    case logits_use::sampled:
    case logits_use::best:
      return true;
    case logits_use::candidates:
      return !settings_.uses_beams();
    default:
      return false;
  }
}

bool request::searches_unread() const {
  return settings_.num_beam_groups == 1 && live_ == sequences_.size() && !callbacks_.should_stop &&
         owner_->owner().config().tokens.vocab_size <= most_beam_tokens;
}

float request::score_of(const sequence& s) const {
  return beams_->groups().front().running()[static_cast<size_t>(&s - sequences_.data())].score;
}

uint64_t request::seed_of(const sequence& s) const {
  return settings_.seed + static_cast<uint64_t>(&s - sequences_.data());
}

double request::uniform_of(const sequence& s) const {
  return decode::uniform(seed_of(s), static_cast<uint64_t>(num_new(s)));
}

size_t request::num_outputs() const {
  std::lock_guard lock(mutex_);
  return num_outputs_;
}

void request::fail_index(size_t index) const {
  fail(FT_ERROR_INVALID_ARGUMENT, "sequence ", index, " was asked for; the request has ", num_outputs_);
}

}  // namespace ft::runtime
