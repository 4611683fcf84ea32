// Logits processors: what a request's settings forbid or discourage, applied to one row of logits in place, in the
// order of Hugging Face transformers (repetition penalty, n-grams, bad words, minimum length; forced tokens).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/options.h"

namespace ft::decode {

// Marks tokens as seen without clearing an array as long as the vocabulary each step.
class token_marks {
 public:
  explicit token_marks(int64_t vocab_size) : epoch_of_(static_cast<size_t>(vocab_size), 0) {}
  void clear() {
    if (++epoch_ == 0) {
      epoch_of_.assign(epoch_of_.size(), 0);
      epoch_ = 1;
    }
  }
  // True the first time since clear().
  bool insert(int32_t token) {
    if (epoch_of_[static_cast<size_t>(token)] == epoch_) return false;
    epoch_of_[static_cast<size_t>(token)] = epoch_;
    return true;
  }

 private:
  std::vector<uint32_t> epoch_of_;
  uint32_t epoch_ = 0;
};

// tokens: prompt and new ones, negative where the prompt has an embedding instead; the last `num_new` of them are new.
// Allocates nothing.
void process_logits(std::span<float> logits, std::span<const int32_t> tokens, int64_t num_new, const options& settings,
                    token_marks& marks);

// What comes after these, and after a constraint of the caller's: leaves nothing but a token that must come now.
void force_tokens(std::span<float> logits, int64_t num_tokens, int64_t num_new, const options& settings);

}  // namespace ft::decode
