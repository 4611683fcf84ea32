// The operations that every instruction-set level provides with kernels of its own. isa/table.cc puts them into the
// level's op table.
//
// Included only by files that are compiled once per level: FT_ISA is the level's name (cmake/isa_variants.cmake).
#pragma once

#include <memory>
#include <span>

#include "ops/op_table.h"

namespace ft::cpu::FT_ISA {

// gemm/
std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from);
void linear(exec&, const linear_args&);

// isa/
void activation(exec&, const activation_args&);
void gated_activation(exec&, const gated_activation_args&);
void attention(exec&, const attention_args&);
void paged_attention(exec&, const paged_attention_args&);
void add(exec&, const add_args&);
void scale(exec&, const scale_args&);
void embedding(exec&, const embedding_args&);
void kv_write(exec&, const kv_write_args&);
void log_softmax(exec&, const log_softmax_args&);
void top_k(exec&, const top_k_args&);
void norm(exec&, const norm_args&);
void pool(exec&, const pool_args&);
void rotary_table(exec&, const rotary_table_args&);
void rotary(exec&, const rotary_args&);
void gather_rows(exec&, const gather_rows_args&);

}  // namespace ft::cpu::FT_ISA
