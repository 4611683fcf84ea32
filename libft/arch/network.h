// One loaded model on one rank: its weights and the recipe that applies them. Immutable once built, so that any
// number of passes may share it.
#pragma once

#include "arch/config/config.h"
#include "nn/batch.h"
#include "nn/run.h"

namespace ft::arch {

class network {
 public:
  virtual ~network() = default;

  // The stack: last hidden state [num_tokens, config.output_size()], activations of the run.
  virtual tensor hidden(nn::run& run, const nn::ragged_batch& batch) const = 0;

  // The head on rows of the hidden state: [rows, output_size] -> [rows, vocab_size or num_labels] f32. Sequence
  // classifiers take their rows' first (BERT) tokens. Null when the model has no head.
  virtual tensor logits(nn::run& run, const tensor& hidden_rows) const = 0;

  // The pooler on each sequence's first token: [rows, hidden_size] -> [rows, hidden_size]. Null when there is none.
  virtual tensor pooled(nn::run& run, const tensor& first_tokens) const = 0;

  // Encoder-decoders only: the encoder's stack on whole rows, [num_tokens, hidden_size], activations of the run.
  // hidden() is the decoder's, which attends to these states as batch.encoder_states, or to what keep_cross() has kept
  // of them.
  virtual tensor encode(nn::run&, const nn::ragged_batch&) const {
    fail(FT_ERROR_INTERNAL, "the model has no encoder");
  }

  // Writes what each decoder layer's cross-attention reads of the encoder's states [tokens, hidden_size] to the pages
  // of its cache: token t to slots[t].
  virtual void keep_cross(nn::run&, const tensor& /*states*/, const tensor& /*slots*/,
                          const std::vector<kv_pages>& /*cache*/) const {
    fail(FT_ERROR_INTERNAL, "the model has no encoder");
  }

  virtual uint64_t weight_bytes() const = 0;
};

}  // namespace ft::arch
