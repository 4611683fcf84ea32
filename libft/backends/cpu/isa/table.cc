// One level's kernels.
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"
#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::FT_ISA {

kernels make_kernels() {
  kernels k;
  k.ops = {.activation = activation,
           .gated_activation = gated_activation,
           .attention = attention,
           .paged_attention = paged_attention,
           .add = add,
           .scale = scale,
           .embedding = embedding,
           .kv_write = kv_write,
           .kv_copy = ref::kv_copy,
           .linear = linear,
           .log_softmax = log_softmax,
           .argmax = ref::argmax,
           .top_k = top_k,
           .sampling_threshold = ref::sampling_threshold,
           .sample = ref::sample,
           .edit_logits = ref::edit_logits,
           .choose_beams = ref::choose_beams,
           .reorder_beams = ref::reorder_beams,
           .norm = norm,
           .pool = pool,
           .rotary_table = rotary_table,
           .rotary = rotary,
           .gather_rows = gather_rows};
  k.pack = pack;
  return k;
}

}  // namespace ft::cpu::FT_ISA
