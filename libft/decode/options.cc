#include "decode/options.h"

#include <algorithm>
#include <cmath>

#include "core/status.h"

namespace ft::decode {
namespace {

template <class T>
void require(bool holds, const char* option, const T& value, const char* range) {
  if (!holds) fail(FT_ERROR_INVALID_ARGUMENT, option, " is ", value, "; it must be ", range);
}

void require_token(int32_t token, int64_t vocab_size, const char* option) {
  if (token < 0 || token >= vocab_size)
    fail(FT_ERROR_INVALID_ARGUMENT, option, " holds token ", token, ", outside the vocabulary of ", vocab_size);
}

}  // namespace

void options::validate(int64_t vocab_size) const {
  require(max_new_tokens >= 1, "max_new_tokens", max_new_tokens, "at least 1");
  require(min_new_tokens >= 0 && min_new_tokens <= max_new_tokens, "min_new_tokens", min_new_tokens,
          "between 0 and max_new_tokens");
  require(std::isfinite(temperature) && temperature > 0, "temperature", temperature,
          "greater than 0; for the most probable token, turn do_sample off");
  validate_cuts(vocab_size);
  require(std::isfinite(repetition_penalty) && repetition_penalty > 0, "repetition_penalty", repetition_penalty,
          "greater than 0 (1 is off)");
  require(std::isfinite(presence_penalty), "presence_penalty", presence_penalty, "finite (0 is off)");
  require(std::isfinite(frequency_penalty), "frequency_penalty", frequency_penalty, "finite (0 is off)");
  require(no_repeat_ngram_size >= 0, "no_repeat_ngram_size", no_repeat_ngram_size, "0 (off) or more");
  validate_beams();
  for (int32_t token : stop_token_ids) require_token(token, vocab_size, "stop_token_ids");
  if (forced_bos_token_id != -1) require_token(forced_bos_token_id, vocab_size, "forced_bos_token_id");
  for (int32_t token : forced_eos_token_ids) require_token(token, vocab_size, "forced_eos_token_id");
  for (const auto& word : bad_words) {
    require(!word.empty(), "bad_words", "holding an empty sequence", "made of sequences of at least one token");
    for (int32_t token : word) require_token(token, vocab_size, "bad_words");
  }
}

void options::validate_cuts(int64_t vocab_size) const {
  require(top_k >= 0, "top_k", top_k, "0 (off) or more");
  require(top_p > 0 && top_p <= 1, "top_p", top_p, "greater than 0 and at most 1 (off)");
  require(min_p >= 0 && min_p <= 1, "min_p", min_p, "between 0 (off) and 1");
  require(typical_p > 0 && typical_p <= 1, "typical_p", typical_p, "greater than 0 and at most 1 (off)");
  require(top_p_decay > 0 && top_p_decay <= 1, "top_p_decay", top_p_decay, "greater than 0 and at most 1 (off)");
  require(top_p_min >= 0 && top_p_min <= top_p, "top_p_min", top_p_min, "between 0 and top_p");
  require(top_p_reset_id >= -1 && top_p_reset_id < vocab_size, "top_p_reset_id", top_p_reset_id,
          cat("a token, of ", vocab_size, ", or -1 (none)").c_str());
}

bool options::edits_logits() const {
  const bool penalises = repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  return penalises || no_repeat_ngram_size > 0 || !bad_words.empty() || min_new_tokens > 0;
}

bool options::forces_token(int64_t num_tokens, int64_t num_new) const {
  return (forced_bos_token_id >= 0 && num_tokens == 1) ||
         (!forced_eos_token_ids.empty() && num_new == max_new_tokens - 1);
}

// Of top_k one more, to see whether it ties with the last. A nucleus, and what min_p leaves, seldom has more than 128.
size_t options::token_candidates() const {
  if (!do_sample) return 1;
  return top_k > 0 ? static_cast<size_t>(top_k) + 1 : 128;
}

bool options::reads_last_token() const {
  const auto is_phrase = [](const std::vector<int32_t>& word) { return word.size() > 1; };
  return no_repeat_ngram_size > 0 || top_p_decay < 1 || std::ranges::any_of(bad_words, is_phrase);
}

// Enough of them do not end: a sequence can be ended by each of the stop tokens.
size_t options::beam_candidates() const {
  return std::max<size_t>(2, 1 + stop_token_ids.size()) * static_cast<size_t>(num_beams / num_beam_groups);
}

double options::top_p_after(std::span<const int32_t> new_tokens) const {
  if (top_p_decay == 1) return top_p;
  const auto last_reset = std::find(new_tokens.rbegin(), new_tokens.rend(), top_p_reset_id);
  const auto since = static_cast<double>(last_reset - new_tokens.rbegin());
  return std::max<double>(top_p_min, top_p * std::pow(double{top_p_decay}, since));
}

void options::validate_beams() const {
  require(num_beams >= 1 && num_beams <= max_beams, "num_beams", num_beams, cat("between 1 and ", max_beams).c_str());
  require(num_return_sequences >= 1 && num_return_sequences <= max_beams, "num_return_sequences", num_return_sequences,
          cat("between 1 and ", max_beams).c_str());
  require(num_beam_groups >= 1 && num_beams % num_beam_groups == 0, "num_beam_groups", num_beam_groups,
          "at least 1 and a divisor of num_beams");
  require(std::isfinite(length_penalty), "length_penalty", length_penalty, "finite (1 is the mean log-probability)");
  require(std::isfinite(diversity_penalty) && diversity_penalty >= 0, "diversity_penalty", diversity_penalty,
          "finite, and 0 (off) or more");
  if (num_beam_groups > 1 && do_sample)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_beam_groups is ", num_beam_groups,
         " with do_sample: diverse beams are not sampled; choose one of them");
  if (num_return_sequences == 1) return;
  if (uses_beams())
    require(num_return_sequences <= num_beams, "num_return_sequences", num_return_sequences, "at most num_beams");
  else if (!do_sample)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_return_sequences is ", num_return_sequences,
         ": greedy search would repeat itself; set do_sample, or num_beams");
}

}  // namespace ft::decode
