// How one request's tokens are chosen. The meanings are those of Hugging Face transformers' GenerationConfig.
#pragma once

#include <cstdint>
#include <vector>

namespace ft::decode {

struct options {
  int32_t max_new_tokens = 64;
  int32_t min_new_tokens = 0;
  bool do_sample = false;
  float temperature = 1;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t no_repeat_ngram_size = 0;
  uint64_t seed = 0;
  std::vector<int32_t> stop_token_ids;
  std::vector<std::vector<int32_t>> bad_words;  // token sequences, none empty
  bool logprobs = false;

  // Throws ft::error (FT_ERROR_INVALID_ARGUMENT) naming the option, its value and what it may be.
  void validate(int64_t vocab_size) const;
};

}  // namespace ft::decode
