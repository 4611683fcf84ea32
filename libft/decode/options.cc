#include "decode/options.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/status.h"

namespace ft::decode {
namespace {

template <class T>
void require(bool holds, const char* option, T value, const char* what_it_must_be) {
  if (holds) return;
  if constexpr (std::is_enum_v<T>)
    require(holds, option, static_cast<std::underlying_type_t<T>>(value), what_it_must_be);
  else
    fail(FT_ERROR_INVALID_ARGUMENT, option, " is ", value, "; it must be ", what_it_must_be);
}

void require_tokens(const std::vector<int32_t>& tokens, int64_t vocab_size, const char* option) {
  for (int32_t token : tokens)
    if (token < 0 || token >= vocab_size)
      fail(FT_ERROR_INVALID_ARGUMENT, option, " holds token ", token, ", outside the vocabulary of ", vocab_size);
}

static_assert(max_beams == 128);  // as option_list.inc says in words

}  // namespace

void options::validate(int64_t vocab_size) const {
#define FT_OPTION(type, name, value, holds, what_it_must_be) require(holds, #name, name, what_it_must_be);
#include "decode/option_list.inc"
  validate_together();
  require_tokens(stop_token_ids, vocab_size, "stop_token_ids");
  require_tokens(forced_eos_token_ids, vocab_size, "forced_eos_token_id");
  for (const std::vector<int32_t>& word : bad_words) {
    if (word.empty()) fail(FT_ERROR_INVALID_ARGUMENT, "bad_words holds a sequence of no tokens; give at least one");
    require_tokens(word, vocab_size, "bad_words");
  }
}

// As in transformers, what contradicts itself is refused.
void options::validate_together() const {
  if (num_beam_groups > 1 && do_sample)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_beam_groups is ", num_beam_groups,
         " with do_sample: diverse beams are not sampled; choose one of them");
  if (num_beam_groups > 1 && diversity_penalty == 0)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_beam_groups is ", num_beam_groups,
         " with a diversity_penalty of 0: the groups would all be the same; set the penalty too");
  if (num_beam_groups == 1 && diversity_penalty > 0)
    fail(FT_ERROR_INVALID_ARGUMENT, "diversity_penalty is ", diversity_penalty,
         ", which acts between groups of beams; set num_beam_groups too");
  if (num_return_sequences == 1) return;
  if (uses_beams())
    require(num_return_sequences <= num_beams, "num_return_sequences", num_return_sequences, "at most num_beams");
  else if (!do_sample)
    fail(FT_ERROR_INVALID_ARGUMENT, "num_return_sequences is ", num_return_sequences,
         ": greedy search would repeat itself; set do_sample, or num_beams");
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

}  // namespace ft::decode
