#include "runtime/scheduler/scheduled_request.h"

#include <utility>

#include "decode/device_choice.h"
#include "decode/philox.h"

namespace ft::runtime {

scheduled_request::scheduled_request(const model_limits& limits, const request_plan& plan, decode::options given,
                                     request_callbacks callbacks, soft_prompt soft_prompt, bool shares,
                                     std::shared_ptr<std::atomic<bool>> cancellations)
    : request(std::move(given), std::move(callbacks), static_cast<int64_t>(plan.prompt.size()),
              plan.last_length - static_cast<int64_t>(plan.prompt.size()), std::move(cancellations)),
      source(plan.source),
      last_length(plan.last_length),
      most_pages(plan.most_pages),
      soft(std::move(soft_prompt)),
      shares_prefix(shares),
      sequences(static_cast<size_t>(settings().width())),
      device_can_search_(limits.vocab_size <= most_beam_tokens) {
  const int64_t most_new = last_length - prompt_length();
  if (settings().uses_beams()) {
    beams = std::make_unique<decode::beam_search>(settings(), most_new);
    next.resize(sequences.size());
  }
  for (auto* rows : {&sequences, &next})
    for (sequence& s : *rows) {
      s.reserve(last_length, plan.row_pages);
      if (keeps_logprobs()) s.logprobs.reserve(static_cast<size_t>(most_new));
    }
  sequences[0].tokens.assign(plan.prompt.begin(), plan.prompt.end());
  pinned_pages.reserve(static_cast<size_t>(plan.row_pages));
  source_pages.reserve(static_cast<size_t>(plan.source_pages));
}

logits_use scheduled_request::use_of_logits(const sequence& s) const {
  const bool here = needs_logits_here(s);
  if (settings().uses_beams()) {
    if (here || settings().do_sample || settings().beam_candidates() > most_top_k) return logits_use::log_probabilities;
    if (settings().edits_logits()) return logits_use::beam_candidates;
    return searches_unread() ? logits_use::next_beams : logits_use::candidates;
  }
  if (here) return logits_use::whole;
  if (!settings().do_sample) return keeps_logprobs() ? logits_use::candidates : logits_use::best;
  if (settings().samples_all()) return logits_use::sampled;
  return settings().typical_p == 1 ? logits_use::thresholded : logits_use::whole;
}

bool scheduled_request::needs_logits_here(const sequence& s) const {
  if (callbacks().on_logits || callbacks().constrain_logits || settings().is_diverse()) return true;
  if (settings().forces_token(s.length(), num_new(s))) return true;
  if (!is_forked() && settings().do_sample) return true;  // the others draw from the same row
  // Raw log-probabilities are to the bit what they are in a prompt: they come from the logits before any change, by the
  // operation that a prompt's come from or by its like (ops/top_k.h).
  const bool changes = settings().edits_logits() || (settings().do_sample && settings().temperature != 1);
  const bool by_other_means = !settings().uses_beams() && settings().do_sample && settings().samples_all();
  return settings().logprobs == decode::logprobs_kind::raw && (changes || by_other_means);
}

bool scheduled_request::goes_on_unread(const sequence& s) const {
  if (!is_forked() || settings().reads_last_token()) return false;
  switch (use_of_logits(s)) {
    case logits_use::next_beams:
    case logits_use::thresholded:
    case logits_use::sampled:
    case logits_use::best:
      return true;
    case logits_use::candidates:
      return !settings().uses_beams();
    default:
      return false;
  }
}

bool scheduled_request::searches_unread() const {
  return settings().num_beam_groups == 1 && is_forked() && !callbacks().should_stop && device_can_search_;
}

float scheduled_request::score_of(const sequence& s) const {
  return beams->groups().front().running()[static_cast<size_t>(&s - sequences.data())].score;
}

uint64_t scheduled_request::seed_of(const sequence& s) const {
  return settings().seed + static_cast<uint64_t>(&s - sequences.data());
}

double scheduled_request::uniform_of(const sequence& s) const {
  return decode::uniform(seed_of(s), static_cast<uint64_t>(num_new(s)));
}

void scheduled_request::release_pages(page_allocator& pages) noexcept {
  for (auto* rows : {&sequences, &next})
    for (sequence& s : *rows) s.release_pages(pages);
  for (auto page = pinned_pages.rbegin(); page != pinned_pages.rend(); ++page) pages.unpin(*page);
  pinned_pages.clear();
  for (int32_t page : source_pages) pages.give_back(page);
  source_pages.clear();
}

}  // namespace ft::runtime
