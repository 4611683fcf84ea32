// The layers of one side of a model that a rank has, and what stands behind the last of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "arch/config/config.h"
#include "arch/networks/layer.h"
#include "io/rank_share.h"
#include "nn/linear.h"
#include "nn/rotary.h"

namespace ft::arch {

class weight_loader;

// What tells the stacks of all recipes apart; the rest is the configuration's. Sizes are the whole model's.
struct stack_shape {
  std::string at;  // what its weights' names begin with: "", "encoder.", "decoder."
  block_kind block = block_kind::pre_norm;
  bool causal = false;
  bool cross = false;  // its layers attend to an encoder's states
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  std::span<const layer_config> layers{};  // empty: all are alike
  bool final_norm = false;
};

class stack {
 public:
  stack() = default;
  // Of the whole stack, the share's part.
  stack(weight_loader& load, const model_config& config, const stack_shape& shape, const io::rank_share& share);

  // hidden [num_tokens, hidden_size], in place: through the layers, unless the pass is given up on the way, which
  // run.stop then says.
  void forward(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) const;

  // On the last stage. [num_tokens, output_size], which is `hidden` where the two are as wide: the final norm and the
  // projection to the embeddings' width (OPT-350m), where there are such.
  void finish(nn::run& run, const tensor& hidden, const tensor& out) const;

  // Writes what each layer's cross-attention reads of the encoder's states to its pages.
  void keep_cross(nn::run& run, const tensor& states, const tensor& slots, const std::vector<kv_pages>& cache) const;

  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }

 private:
  layer load_layer(weight_loader& load, const model_config& config, const stack_shape& shape,
                   const io::rank_share& share, int64_t index) const;

  std::vector<nn::rotary> rotary_;
  nn::parameter alibi_slopes_;   // [this rank's heads]
  nn::parameter relative_bias_;  // [this rank's heads, distances]; every layer's attention reads it
  std::vector<int> rotary_of_;   // of each layer, which of rotary_
  std::vector<layer> layers_;
  nn::norm norm_;                 // null: none
  nn::linear output_projection_;  // null: none
};

}  // namespace ft::arch
