// Logits processors: what a request's settings forbid or discourage in one row of logits, in the order of Hugging Face
// transformers (repetition penalty, n-grams, bad words, minimum length; forced tokens). They depend on earlier tokens
// alone and concern few of the vocabulary, and so are a list of edits, which may be carried out where the logits are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/logit_edit.h"
#include "decode/options.h"

namespace ft::decode {

class logit_editor {
 public:
  explicit logit_editor(int64_t vocab_size);

  // The edits of the logits that follow `tokens`: prompt and new ones, negative where the prompt has an embedding
  // instead; the last `num_new` of them are new, and `num_unknown` new ones more are yet to be read, for which
  // change_by_token() stands. Every token once; good until the next call. Allocates nothing.
  std::span<const logit_edit> list(int32_t row, std::span<const int32_t> tokens, size_t num_new,
                                   const options& settings, size_t num_unknown = 0);

  // Carries them out on a row that lies here.
  void edit(std::span<float> logits, std::span<const int32_t> tokens, size_t num_new, const options& settings);

 private:
  int32_t& change_of(int32_t token);
  void penalise(std::span<const int32_t> tokens, size_t num_new, const options& settings);
  void ban_repeated_ngrams(std::span<const int32_t> tokens, size_t n);
  void ban_words(std::span<const int32_t> tokens, const options& settings);

  int32_t row_ = 0;
  std::vector<logit_edit> edits_;
  std::vector<int32_t> place_of_;  // of each token's edit, if the edit there is the token's
};

logit_penalties penalties_of(const options& settings);
// What one new token changes of its own logit, from then on; 0 is nothing.
int32_t change_by_token(const options& settings);

// What comes after these, and after a constraint of the caller's: leaves nothing but a token that must come now.
void force_tokens(std::span<float> logits, int64_t num_tokens, int64_t num_new, const options& settings);

}  // namespace ft::decode
