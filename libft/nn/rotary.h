// Rotary positions: the cosines and sines of a step, computed once and used by every layer.
#pragma once

#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/rotary.h"

namespace ft::nn {

struct rotary {
  parameter inverse_frequency;  // [rotary_dim / 2]
  float attention_factor = 1;
  rotary_style style = rotary_style::half;

  // [tokens, rotary_dim], in the run's activations.
  tensor table(run& run, const tensor& positions) const {
    const int64_t rotary_dim = 2 * inverse_frequency.view.dim(0);
    tensor t = run.activations.make(dtype::f32, {positions.dim(0), rotary_dim});
    ops::rotary_table(run.ex, {.table = t,
                               .positions = positions,
                               .inverse_frequency = inverse_frequency.values(),
                               .attention_factor = attention_factor});
    return t;
  }
};

}  // namespace ft::nn
