// What turns one side's inputs into the first layer's: words, positions and token types, summed and perhaps normed.
#pragma once

#include <memory>

#include "nn/batch.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/run.h"

namespace ft::arch {

struct embedder {
  std::shared_ptr<const nn::embedding> words;      // which the other side or an output projection may share
  float scale = 1;                                 // of words
  nn::linear projection;                           // from the embeddings' width to the layers' (OPT-350m); null: none
  std::shared_ptr<const nn::embedding> positions;  // null: none that are added
  nn::embedding token_types;                       // null: none
  nn::norm norm;                                   // null: none

  // out [num_tokens, hidden_size]. Throws ft::error (FT_ERROR_UNSUPPORTED) for pixels, of which it makes no tokens.
  void forward(nn::run& run, const nn::inputs& in, const tensor& out) const;
};

}  // namespace ft::arch
