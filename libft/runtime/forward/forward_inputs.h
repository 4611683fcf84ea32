// Whole sequences as the caller gives them, padded or ragged.
#pragma once

#include <memory>

#include "core/tensor.h"
#include "ops/exec.h"

namespace ft::runtime {

struct forward_inputs {
  tensor input_ids;       // [batch, seq], or [total_tokens] with row_offsets; any integer type, any strides
  tensor attention_mask;  // as input_ids, or null
  tensor token_type_ids;  // as input_ids, or null
  tensor row_offsets;     // [rows + 1], or null

  // Encoder-decoders: the rows of the decoder, as many, laid out by the same rules.
  tensor decoder_input_ids;
  tensor decoder_attention_mask;
  tensor decoder_row_offsets;

  // In the place of ids, [batch, seq, width] or [total_tokens, width]; any float type, any strides; or null.
  tensor inputs_embeds;
  tensor decoder_inputs_embeds;
  // Whether they lie in the memory of the model's device, in float32, float16 or bfloat16, and what they are ready
  // after (null: they are). All else is in the host's.
  bool embeds_on_device = false, decoder_embeds_on_device = false;
  std::shared_ptr<stream_point> embeds_ready, decoder_embeds_ready;
};

}  // namespace ft::runtime
