// One pass over whole sequences, padded or ragged: hidden states, logits, pooler output, sentence embeddings.
#pragma once

#include <memory>
#include <optional>

#include "core/memory.h"
#include "runtime/forward/forward_inputs.h"
#include "runtime/model.h"

namespace ft::runtime {

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
