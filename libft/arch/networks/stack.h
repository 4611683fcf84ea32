// The layers of one side of a model that a rank has, and the norm behind the last of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "arch/config/config.h"
#include "arch/networks/layer.h"
#include "io/rank_share.h"
#include "nn/rotary.h"

namespace ft::arch {

class weight_loader;

// What the recipe says of a stack beside its configuration.
struct stack_traits {
  std::string at;       // what its weights' names begin with: "", "encoder.", "decoder."
  bool causal = false;  // tokens see only what is before them
  bool cross = false;   // its layers attend to an encoder's states, too
};

class stack {
 public:
  stack() = default;
  // Of the whole stack, the share's part.
  stack(weight_loader& load, const stack_config& config, const stack_traits& traits, const io::rank_share& share);

  // hidden [num_tokens, hidden_size], in place: through the layers, unless the pass is given up on the way, which
  // run.stop then says.
  void forward(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) const;

  // The norm behind the last layer, where there is one, in place; on the last stage.
  void finish(nn::run& run, const tensor& hidden) const;

  // Writes what each layer's cross-attention reads of the encoder's states to its pages.
  void keep_cross(nn::run& run, const tensor& states, const tensor& slots, const std::vector<kv_pages>& cache) const;

  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }

 private:
  layer load_layer(weight_loader& load, const stack_config& config, const stack_traits& traits,
                   const io::rank_share& share, int64_t index) const;

  std::vector<nn::rotary> rotary_;
  nn::parameter alibi_slopes_;   // [this rank's heads]
  nn::parameter relative_bias_;  // [this rank's heads, distances]; every layer's attention reads it
  std::vector<int> rotary_of_;   // of each layer, which of rotary_
  std::vector<layer> layers_;
  nn::norm norm_;  // null: none
};

}  // namespace ft::arch
