// One pass over whole sequences, padded or ragged: hidden states, logits, pooler output, sentence embeddings.
#pragma once

#include <memory>
#include <optional>

#include "core/memory.h"
#include "runtime/model.h"

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

struct forward_request {
  bool last_hidden_state = false;
  bool pooler_output = false;
  bool logits = false;
  bool embedding = false;  // encoder-decoders: of the encoder's states
  bool encoder_last_hidden_state = false;
  std::optional<pool_kind> pooling;  // empty: the checkpoint's
  bool normalize = true;
  bool on_device = false;  // outputs stay there
};

// A tensor that owns its memory; `view` is null when it was not asked for.
struct owned_tensor {
  std::shared_ptr<memory> from;
  buffer storage;
  tensor view;
};

// On the host in float32. On the device states are in the dtype of the activations, logits and embeddings in float32,
// and all of them are there once `ready` has been reached (null: now).
struct forward_outputs {
  owned_tensor last_hidden_state;
  owned_tensor pooler_output;
  owned_tensor logits;
  owned_tensor embedding;
  owned_tensor encoder_last_hidden_state;
  std::shared_ptr<stream_point> ready;
};

// What the model offers when the caller names nothing.
forward_request default_outputs(const model& m);

// Throws ft::error: FT_ERROR_INVALID_ARGUMENT for wrong shapes, dtypes, ids or lengths, FT_ERROR_UNSUPPORTED for an
// output the model does not have.
forward_outputs forward(model& m, const forward_inputs& inputs, const forward_request& wanted);

}  // namespace ft::runtime
