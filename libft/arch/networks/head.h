// What turns last hidden states into logits: an output projection, and what stands before it in encoders' heads.
#pragma once

#include <memory>
#include <vector>

#include "arch/config/config.h"
#include "io/rank_share.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/run.h"

namespace ft::arch {

struct head {
  std::shared_ptr<const nn::linear> dense;  // null: none; a pooler may be the same
  activation_kind activation = activation_kind::none;
  nn::norm norm;    // null: none
  float scale = 1;  // of the output projection's input (T5)
  nn::linear output;
  float softcap = 0;             // of the logits (Gemma 2); 0: none
  std::vector<int64_t> columns;  // of which tensor rank r computes those from columns[r] on; empty: each rank all

  explicit operator bool() const { return bool(output); }

  // The tensor ranks share out the `count` logits of a row.
  void share_out(int64_t count, const io::rank_share& share);

  // [rows, output_size] -> [rows, logits] f32, whole on every tensor rank; in `out`, or in new activations.
  tensor forward(nn::run& run, const tensor& rows, const tensor& out = {}) const;
};

}  // namespace ft::arch
