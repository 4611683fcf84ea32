// The reference operations: plain scalar code that accumulates in double and favours being obviously right over
// being fast; `linear` is declared in ref/linear.h. Every other kernel is tested against them, and FT_CPU_ISA=reference
// runs whole models on them.
#pragma once

#include "ops/op_table.h"

namespace ft::cpu::ref {

void activation(exec&, const activation_args&);
void gated_activation(exec&, const gated_activation_args&);
void attention(exec&, const attention_args&);
void paged_attention(exec&, const paged_attention_args&);
void add(exec&, const add_args&);
void scale(exec&, const scale_args&);
void embedding(exec&, const embedding_args&);
void kv_write(exec&, const kv_write_args&);
void kv_copy(exec&, const kv_copy_args&);  // every level's
void log_softmax(exec&, const log_softmax_args&);
void argmax(exec&, const argmax_args&);  // every level's
void top_k(exec&, const top_k_args&);
void sampling_threshold(exec&, const sampling_threshold_args&);  // every level's
void sample(exec&, const sample_args&);                          // every level's
void edit_logits(exec&, const edit_logits_args&);                // every level's
void choose_beams(exec&, const choose_beams_args&);              // every level's
void reorder_beams(exec&, const reorder_beams_args&);            // every level's
void norm(exec&, const norm_args&);
void pool(exec&, const pool_args&);
void rotary_table(exec&, const rotary_table_args&);
void rotary(exec&, const rotary_args&);
void gather_rows(exec&, const gather_rows_args&);

// f(x), in double.
double activate(activation_kind kind, double x);

}  // namespace ft::cpu::ref
