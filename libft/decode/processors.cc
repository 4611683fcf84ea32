#include "decode/processors.h"

#include <algorithm>
#include <limits>

namespace ft::decode {
namespace {

constexpr float banned = -std::numeric_limits<float>::infinity();

// Keskar et al., CTRL (arXiv:1909.05858): tokens seen anywhere, prompt included, become less likely.
void penalise_repetition(std::span<float> logits, std::span<const int32_t> tokens, float penalty, token_marks& marks) {
  marks.clear();
  for (int32_t token : tokens) {
    if (token < 0 || !marks.insert(token)) continue;
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit < 0 ? logit * penalty : logit / penalty;
  }
}

void penalise_presence(std::span<float> logits, std::span<const int32_t> new_tokens, float presence, float frequency,
                       token_marks& marks) {
  marks.clear();
  for (int32_t token : new_tokens)
    logits[static_cast<size_t>(token)] -= frequency + (marks.insert(token) ? presence : 0);
}

// Bans each token that would complete an n-gram already in `tokens`.
void ban_repeated_ngrams(std::span<float> logits, std::span<const int32_t> tokens, size_t n) {
  if (tokens.size() < n) return;
  const auto tail = tokens.last(n - 1);
  for (size_t i = 0; i + n <= tokens.size(); ++i)
    if (tokens[i + n - 1] >= 0 && std::equal(tail.begin(), tail.end(), tokens.begin() + static_cast<std::ptrdiff_t>(i)))
      logits[static_cast<size_t>(tokens[i + n - 1])] = banned;
}

// A word that is one stop token is left alone, as in transformers: the text could not end.
void ban_words(std::span<float> logits, std::span<const int32_t> tokens, const options& settings) {
  const auto& stops = settings.stop_token_ids;
  for (const auto& word : settings.bad_words) {
    const size_t before = word.size() - 1;
    if (before == 0 && std::find(stops.begin(), stops.end(), word.back()) != stops.end()) continue;
    if (before <= tokens.size() &&
        std::equal(word.begin(), word.end() - 1, tokens.end() - static_cast<std::ptrdiff_t>(before)))
      logits[static_cast<size_t>(word.back())] = banned;
  }
}

void leave_only(std::span<float> logits, std::span<const int32_t> tokens) {
  std::fill(logits.begin(), logits.end(), banned);
  for (int32_t token : tokens) logits[static_cast<size_t>(token)] = 0;
}

}  // namespace

void process_logits(std::span<float> logits, std::span<const int32_t> tokens, int64_t num_new, const options& settings,
                    token_marks& marks) {
  if (settings.repetition_penalty != 1) penalise_repetition(logits, tokens, settings.repetition_penalty, marks);
  if (settings.presence_penalty != 0 || settings.frequency_penalty != 0)
    penalise_presence(logits, tokens.last(static_cast<size_t>(num_new)), settings.presence_penalty,
                      settings.frequency_penalty, marks);
  if (settings.no_repeat_ngram_size > 0)
    ban_repeated_ngrams(logits, tokens, static_cast<size_t>(settings.no_repeat_ngram_size));
  ban_words(logits, tokens, settings);
  if (num_new < settings.min_new_tokens)
    for (int32_t token : settings.stop_token_ids) logits[static_cast<size_t>(token)] = banned;
}

void force_tokens(std::span<float> logits, int64_t num_tokens, int64_t num_new, const options& settings) {
  if (settings.forced_bos_token_id >= 0 && num_tokens == 1) leave_only(logits, {&settings.forced_bos_token_id, 1});
  if (!settings.forced_eos_token_ids.empty() && num_new == settings.max_new_tokens - 1)
    leave_only(logits, settings.forced_eos_token_ids);
}

}  // namespace ft::decode
