// The CUDA kernels' launchers, entered in table.cc. Contracts are those of ops/, with activations in float32, float16
// or bfloat16; all memory, the index tensors' too, is the device's.
#pragma once

#include "ops/op_table.h"

namespace ft::cuda {

void activation(exec&, const activation_args&);
void gated_activation(exec&, const gated_activation_args&);
void attention(exec&, const attention_args&);
void paged_attention(exec&, const paged_attention_args&);
bool paged_self_attention(exec&, const paged_self_attention_args&);
void add(exec&, const add_args&);
void scale(exec&, const scale_args&);
void embedding(exec&, const embedding_args&);
void embedding_sum(exec&, const embedding_sum_args&);
void kv_write(exec&, const kv_write_args&);
void rotary_kv_write(exec&, const rotary_kv_write_args&);
void kv_copy(exec&, const kv_copy_args&);
void linear(exec&, const linear_args&);
bool gated_linear(exec&, const gated_linear_args&);
void log_softmax(exec&, const log_softmax_args&);
void argmax(exec&, const argmax_args&);
void top_k(exec&, const top_k_args&);
void sampling_threshold(exec&, const sampling_threshold_args&);
void sample(exec&, const sample_args&);
void edit_logits(exec&, const edit_logits_args&);
void choose_beams(exec&, const choose_beams_args&);
void reorder_beams(exec&, const reorder_beams_args&);
void norm(exec&, const norm_args&);
void pool(exec&, const pool_args&);
void rotary_table(exec&, const rotary_table_args&);
void rotary(exec&, const rotary_args&);
void gather_rows(exec&, const gather_rows_args&);

const op_table& cuda_op_table();

}  // namespace ft::cuda
