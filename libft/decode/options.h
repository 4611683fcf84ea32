// How one request's tokens are chosen. The meanings are those of Hugging Face transformers' GenerationConfig.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ft::decode {

inline constexpr int32_t max_beams = 128;

// Numbered as ft_early_stopping and ft_logprobs.
enum class early_stopping_kind : int32_t { no, yes, never };

// Which log-probabilities of the chosen tokens are kept: under the model's own distribution, or under what is left of
// it after penalties, bans and callbacks (and, when sampling, temperature and cuts), from which they were chosen.
enum class logprobs_kind : int32_t { none, raw, processed };

struct options {
#define FT_OPTION(type, name, value, ...) type name = value;
#include "decode/option_list.inc"

  std::vector<int32_t> stop_token_ids;
  std::vector<std::vector<int32_t>> bad_words;  // token sequences, none empty
  std::vector<int32_t> forced_eos_token_ids;    // one of these is the last token of a sequence that reaches its length
  std::vector<int32_t> decoder_input_ids;       // what an encoder-decoder's answer starts with, after its start token

  bool uses_beams() const { return num_beams > 1; }
  // Whether a step's logits become others before a token is chosen: some of them, by penalties and bans; all of them
  // after diverse beams, or because the token that follows `num_tokens`, `num_new` of them new, is given.
  bool edits_logits() const;
  bool is_diverse() const { return num_beam_groups > 1 && diversity_penalty > 0; }
  bool forces_token(int64_t num_tokens, int64_t num_new) const;
  // How many of the best tokens decide which one comes, or, when sampling, nearly always hold those that cuts leave.
  size_t token_candidates() const;
  // Whether what may come depends on the last token otherwise than by penalties: n-grams, phrases and what resets
  // top-p.
  bool reads_last_token() const;
  // The best continuations that each step of a group of beams looks at.
  size_t beam_candidates() const;
  // Whether sampling draws from softmax(logits / temperature) as it is.
  bool samples_all() const { return top_k == 0 && !has_nucleus() && min_p == 0 && typical_p == 1; }
  bool has_nucleus() const { return top_p < 1 || top_p_decay < 1; }
  // Sequences that are computed side by side.
  int32_t width() const { return uses_beams() ? num_beams : num_return_sequences; }

  // The nucleus for the token that follows `new_tokens`: top_p, times top_p_decay for each new token since the last
  // top_p_reset_id, but top_p_min at least (factual-nucleus sampling, arXiv:2206.04624, eq. 1).
  double top_p_after(std::span<const int32_t> new_tokens) const;

  // Throws ft::error (FT_ERROR_INVALID_ARGUMENT) naming the option, its value and what it may be, or two that
  // contradict each other.
  void validate(int64_t vocab_size) const;

 private:
  void validate_together() const;
};

}  // namespace ft::decode
