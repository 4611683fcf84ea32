// One loaded model on one rank: embed -> stack -> head, or, of an encoder-decoder, embed -> stack for each side and the
// decoder's head. The recipes (arch/networks, arch/families) fill it in. Immutable once built, so that any number of
// passes may share it.
//
// Of a model that several ranks share, this is a rank's part: some of the layers where it is a stage of a pipeline, a
// share of each where others have the rest. All ranks run the same calls in the same order, with runs that name their
// communicators (nn/run.h).
#pragma once

#include <memory>
#include <optional>

#include "arch/config/config.h"
#include "arch/networks/embedder.h"
#include "arch/networks/head.h"
#include "arch/networks/stack.h"
#include "io/rank_share.h"
#include "nn/batch.h"
#include "nn/run.h"

namespace ft::arch {

// One side of a model.
struct side {
  embedder embed;  // on the first stage
  stack layers;
  nn::linear projection;  // to the embeddings' width (OPT-350m), on the last stage; null: none
};

struct network_parts {
  std::optional<side> encoder;               // of an encoder-decoder
  side main;                                 // the only side, or the decoder
  std::shared_ptr<const nn::linear> pooler;  // null: none; the last stage's, as the head
  arch::head head;
  uint64_t weight_bytes = 0;
};

class network {
 public:
  network(const model_config& config, const io::rank_share& share, network_parts parts);

  // The only side, or the decoder: last hidden state [num_tokens, config.output_size()], activations of the run. Null
  // on all stages of a pipeline but the last.
  tensor hidden(nn::run& run, const nn::ragged_batch& batch) const;

  // The head on rows of the hidden state: [rows, output_size] -> [rows, vocab_size or num_labels] f32, whole on every
  // tensor rank. Sequence classifiers take their rows' first (BERT) tokens. Null when the model has no head, and on all
  // stages but the last. In `out`, or in new activations.
  tensor logits(nn::run& run, const tensor& hidden_rows, const tensor& out = {}) const;

  // The pooler on each sequence's first token: [rows, hidden_size] -> [rows, hidden_size]. Null as logits are.
  tensor pooled(nn::run& run, const tensor& first_tokens) const;

  // Encoder-decoders only: the encoder on whole rows, [num_tokens, hidden_size], activations of the run, on all stages.
  // hidden() is the decoder's, which attends to these states as batch.encoder_states, or to what keep_cross() has kept
  // of them.
  tensor encode(nn::run& run, const nn::ragged_batch& batch) const;

  // Writes what each of this rank's decoder layers' cross-attention reads of the encoder's states [tokens, hidden_size]
  // to the pages of its cache: token t to slots[t].
  void keep_cross(nn::run& run, const tensor& states, const tensor& slots, const std::vector<kv_pages>& cache) const;

  // What of the model this rank has. Its caches hold one entry for each of its layers, of its key and value heads.
  const io::rank_share& share() const { return share_; }
  int64_t num_layers() const { return parts_.main.layers.num_layers(); }  // not the encoder's, where there are two
  int64_t first_layer() const;                                            // of the model's, this rank's first
  int64_t num_kv_heads() const;
  int64_t first_kv_head() const;                                                                // of the model's
  bool is_first_stage() const { return share_.pipeline_stage == 0; }                            // it embeds
  bool is_last_stage() const { return share_.pipeline_stage == share_.pipeline_parallel - 1; }  // it has the head

  uint64_t weight_bytes() const { return parts_.weight_bytes; }

 private:
  tensor states(nn::run& run, const side& of, const nn::ragged_batch& batch) const;

  model_config config_;
  io::rank_share share_;
  network_parts parts_;
};

}  // namespace ft::arch
