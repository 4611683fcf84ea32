// norm: LayerNorm (arXiv:1607.06450) or RMSNorm (arXiv:1910.07467) over the last axis, with the residual addition
// before it folded in:
//
//   sum = x + residual            (residual null: sum = x)
//   out = norm(sum) * (weight + weight_offset) + bias
//
//   x, residual, sum, out  [rows, width] or [rows, heads, width], the last axis dense, others strided
//   weight, bias           [width] f32; bias may be null
// sum may be null, x or residual; out may be any of the inputs. Mean and variance are accumulated in f32 or better.
#pragma once

#include "ops/exec.h"

namespace ft {

enum class norm_kind : uint8_t { layer, rms };

struct norm_args {
  tensor out;
  tensor x;
  tensor residual;
  tensor sum;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float epsilon = 1e-5f;
  float weight_offset = 0;  // 1 for Gemma, whose checkpoints store weight - 1
  norm_kind kind = norm_kind::layer;
};

namespace ops {
void norm(exec&, const norm_args&);
}

}  // namespace ft
