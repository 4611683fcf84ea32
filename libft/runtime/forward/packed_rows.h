// A batch as the caller gave it, without its padding.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "ops/exec.h"
#include "runtime/forward/forward_inputs.h"

namespace ft::runtime {

struct packed_rows {
  std::vector<int32_t> token_ids;       // [tokens], rows one after another; zeros where embeddings are given
  std::vector<int32_t> token_type_ids;  // [tokens], or empty
  std::vector<int32_t> row_offsets;     // [rows + 1]
  std::vector<int64_t> place;           // [tokens]: where the token lies in the caller's [batch * seq] or [tokens]
  int64_t batch = 0;
  int64_t seq = 0;  // 0 for ragged input
  tensor embeds;    // the caller's [batch, seq, width] or [tokens, width]; null when ids are given
  bool embeds_on_device = false;

  // The token's embedding, as float32; of embeddings on the host.
  void read_embedding(int64_t token, float* out) const;

  // Where the token's embedding begins in `embeds`, in elements.
  int64_t embedding_offset(int64_t token) const;

  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  int64_t num_places() const { return seq ? batch * seq : static_cast<int64_t>(token_ids.size()); }
};

// Throws ft::error (FT_ERROR_INVALID_ARGUMENT) naming the input and the place.
packed_rows pack_rows(const forward_inputs& inputs, int64_t vocab_size, int64_t type_vocab_size, int64_t max_positions,
                      int64_t embedding_width);

// The decoder's rows of the same inputs.
packed_rows pack_decoder_rows(const forward_inputs& inputs, int64_t vocab_size, int64_t max_positions,
                              int64_t embedding_width);

// The embeddings of the tokens from `begin` on, which lie on the device, to `out` [tokens, width], of their dtype.
void gather_embeddings(exec& ex, const packed_rows& rows, int64_t begin, const tensor& out);

}  // namespace ft::runtime
