#include "decode/processors.h"

#include <algorithm>
#include <limits>

namespace ft::decode {
namespace {

void leave_only(std::span<float> logits, std::span<const int32_t> tokens) {
  std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
  for (int32_t token : tokens) logits[static_cast<size_t>(token)] = 0;
}

}  // namespace

logit_editor::logit_editor(int64_t vocab_size) : place_of_(static_cast<size_t>(vocab_size)) {
  edits_.reserve(static_cast<size_t>(vocab_size));
}

std::span<const logit_edit> logit_editor::list(int32_t row, std::span<const int32_t> tokens, size_t num_new,
                                               const options& settings, size_t num_unknown) {
  row_ = row;
  edits_.clear();
  penalise(tokens, num_new, settings);
  if (settings.no_repeat_ngram_size > 0)
    ban_repeated_ngrams(tokens, static_cast<size_t>(settings.no_repeat_ngram_size));
  ban_words(tokens, settings);
  if (num_new + num_unknown < static_cast<size_t>(settings.min_new_tokens))
    for (int32_t token : settings.stop_token_ids) change_of(token) = logit_edit::ban;
  return edits_;
}

void logit_editor::edit(std::span<float> logits, std::span<const int32_t> tokens, size_t num_new,
                        const options& settings) {
  const logit_penalties by = penalties_of(settings);
  for (const logit_edit& e : list(0, tokens, num_new, settings)) {
    float& logit = logits[static_cast<size_t>(e.token)];
    logit = edited(logit, e.change, by);
  }
}

// place_of_ is never cleared: an entry counts where the edit it names agrees.
int32_t& logit_editor::change_of(int32_t token) {
  int32_t& place = place_of_[static_cast<size_t>(token)];
  if (static_cast<size_t>(place) >= edits_.size() || edits_[static_cast<size_t>(place)].token != token) {
    place = static_cast<int32_t>(edits_.size());
    edits_.push_back({row_, token, 0});
  }
  return edits_[static_cast<size_t>(place)].change;
}

// Repetition counts the prompt too (Keskar et al., CTRL, arXiv:1909.05858), presence and frequency new tokens only.
void logit_editor::penalise(std::span<const int32_t> tokens, size_t num_new, const options& settings) {
  if (settings.repetition_penalty != 1)
    for (int32_t token : tokens)
      if (token >= 0) change_of(token) |= 1;
  if (settings.presence_penalty != 0 || settings.frequency_penalty != 0)
    for (int32_t token : tokens.last(num_new)) change_of(token) += 2;
}

// Bans each token that would complete an n-gram already in `tokens`.
void logit_editor::ban_repeated_ngrams(std::span<const int32_t> tokens, size_t n) {
  if (tokens.size() < n) return;
  const auto tail = tokens.last(n - 1);
  for (size_t i = 0; i + n <= tokens.size(); ++i)
    if (tokens[i + n - 1] >= 0 && std::equal(tail.begin(), tail.end(), tokens.begin() + static_cast<std::ptrdiff_t>(i)))
      change_of(tokens[i + n - 1]) = logit_edit::ban;
}

// A word that is one stop token is left alone, as in transformers: the text could not end.
void logit_editor::ban_words(std::span<const int32_t> tokens, const options& settings) {
  const auto& stops = settings.stop_token_ids;
  for (const auto& word : settings.bad_words) {
    const size_t before = word.size() - 1;
    if (before == 0 && std::find(stops.begin(), stops.end(), word.back()) != stops.end()) continue;
    if (before <= tokens.size() &&
        std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<std::ptrdiff_t>(before)))
      change_of(word.back()) = logit_edit::ban;
  }
}

logit_penalties penalties_of(const options& settings) {
  return {settings.repetition_penalty, settings.presence_penalty, settings.frequency_penalty};
}

int32_t change_by_token(const options& settings) {
  const bool counts = settings.presence_penalty != 0 || settings.frequency_penalty != 0;
  return (settings.repetition_penalty != 1 ? 1 : 0) + (counts ? 2 : 0);
}

void force_tokens(std::span<float> logits, int64_t num_tokens, int64_t num_new, const options& settings) {
  if (settings.forced_bos_token_id >= 0 && num_tokens == 1) leave_only(logits, {&settings.forced_bos_token_id, 1});
  if (!settings.forced_eos_token_ids.empty() && num_new == settings.max_new_tokens - 1)
    leave_only(logits, settings.forced_eos_token_ids);
}

}  // namespace ft::decode
