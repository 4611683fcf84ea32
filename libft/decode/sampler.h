// Choosing the next token from one row of processed logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/options.h"

namespace ft::decode {

// `best`; throws ft::error when it is -1, since no logit was a number.
int32_t require_choice(int32_t best);

// The most probable token; the lowest id of equals. Throws ft::error when every logit is NaN.
int32_t argmax(std::span<const float> logits);

// Draws from softmax(logits / temperature) cut by top-k, then top-p (nucleus, arXiv:1904.09751), then min-p
// (arXiv:2407.01082), then typical-p (arXiv:2202.00666), as Hugging Face transformers orders them.
class sampler {
 public:
  explicit sampler(int64_t vocab_size) {
    candidates_.reserve(static_cast<size_t>(vocab_size));
    largest_.reserve(static_cast<size_t>(vocab_size));
  }

  struct choice {
    int32_t token;
    float logprob;  // under the cut distribution that it was drawn from
  };

  // The token that follows `new_tokens`. The seed and how many they are decide the random number. Allocates nothing.
  choice sample(std::span<const float> logits, const options& settings, std::span<const int32_t> new_tokens,
                uint64_t seed);

  // The same distribution as logits in place: divided by the temperature, and -infinity where cut. At least `min_kept`
  // tokens are left, if there are as many.
  void warp(std::span<float> logits, const options& settings, std::span<const int32_t> new_tokens, size_t min_kept);

 private:
  struct candidate {
    float logit;
    int32_t token;
    double probability;   // of those left
    double surprise = 0;  // how far its information lies from the expected
  };
  choice draw(double uniform);
  void cut(std::span<const float> logits, const options& settings, double top_p, size_t min_kept);
  void cut_by_probability(const options& settings, double top_p, size_t min_kept);
  float kth_largest(std::span<const float> logits, size_t k);
  void set_probabilities();
  void keep_top_p(double p, size_t min_kept);
  void keep_min_p(double p, size_t min_kept);
  void keep_typical_p(double p, size_t min_kept);

  std::vector<candidate> candidates_;
  std::vector<float> largest_;
};

}  // namespace ft::decode
