// Rotary position embedding (arXiv:2104.09864).
//
// rotary_table, once a step:  table[t] = attention_factor * (cos(p f_0) .. cos(p f_n-1), sin(p f_0) .. sin(p f_n-1))
//   positions         [tokens] i32, p = positions[t]
//   inverse_frequency [n] f32 on the device, n = rotary_dim / 2
//   table             [tokens, 2 n] f32; the product p f_i is rounded to f32, as in Hugging Face transformers
//
// rotary, in place on the first rotary_dim elements of each head:
//   x      [tokens, heads, head_dim], the last axis dense
//   half         pairs element i with i + n  (GPT-NeoX, Llama in Hugging Face's layout)
//   interleaved  pairs element 2 i with 2 i + 1  (GPT-J, Llama in Meta's and GGUF's layout)
#pragma once

#include "ops/exec.h"

namespace ft {

enum class rotary_style : uint8_t { half, interleaved };

struct rotary_table_args {
  tensor table;
  tensor positions;
  const float* inverse_frequency = nullptr;
  float attention_factor = 1;
};

struct rotary_args {
  tensor x;
  tensor table;
  rotary_style style = rotary_style::half;
};

namespace ops {
void rotary_table(exec&, const rotary_table_args&);
void rotary(exec&, const rotary_args&);
}  // namespace ops

}  // namespace ft
