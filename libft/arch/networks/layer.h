// One layer of any transformer here: attention, attention to an encoder where there is one, and an MLP, with norms and
// residuals as the block kind has them. On a rank with a share of the weights each branch is a part of a sum; the block
// joins it with the other ranks' before anything but a sum is made of it.
#pragma once

#include "arch/config/config.h"
#include "nn/attention.h"
#include "nn/cross_attention.h"
#include "nn/mlp.h"
#include "nn/norm.h"

namespace ft::arch {

struct layer {
  block_kind kind = block_kind::pre_norm;
  nn::norm attention_norm;
  nn::attention attention;
  nn::norm attention_post_norm;  // block_kind::sandwich
  nn::norm cross_norm;
  nn::cross_attention cross;  // null: none; of pre_norm and post_norm
  nn::norm mlp_norm;          // null: attention's serves both branches of a parallel block
  nn::mlp mlp;
  nn::norm mlp_post_norm;  // block_kind::sandwich

  // hidden [tokens, hidden_size], in place.
  void forward(nn::run& run, const nn::ragged_batch& batch, const nn::attention::context& context,
               const tensor& hidden) const;
};

}  // namespace ft::arch
