// The most probable tokens of a row of logits, where a choice needs no others: what ops/top_k.h gives, on the host.
#pragma once

#include <cstdint>
#include <span>

namespace ft::decode {

struct candidate_row {
  std::span<const float> logits;    // the highest first
  std::span<const int32_t> tokens;  // of equal logits the lower first; -1 behind the last number of the row
  // The highest, and log Σ exp(logit - highest) over the whole vocabulary; both 0 where `logits` are log-probabilities
  // already.
  float highest = 0, log_sum = 0;

  size_t size() const { return tokens.size(); }
  float log_probability(size_t i) const { return logits[i] - highest - log_sum; }
};

}  // namespace ft::decode
