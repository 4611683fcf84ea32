// The reference level's table of kernels.
#include "backends/cpu/kernels.h"
#include "backends/cpu/ref/linear.h"
#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu {

kernels reference_kernels() {
  kernels k;
  k.ops = {.activation = ref::activation,
           .gated_activation = ref::gated_activation,
           .attention = ref::attention,
           .paged_attention = ref::paged_attention,
           .add = ref::add,
           .scale = ref::scale,
           .embedding = ref::embedding,
           .kv_write = ref::kv_write,
           .kv_copy = ref::kv_copy,
           .linear = ref::linear,
           .log_softmax = ref::log_softmax,
           .argmax = ref::argmax,
           .top_k = ref::top_k,
           .sampling_threshold = ref::sampling_threshold,
           .sample = ref::sample,
           .edit_logits = ref::edit_logits,
           .choose_beams = ref::choose_beams,
           .reorder_beams = ref::reorder_beams,
           .norm = ref::norm,
           .pool = ref::pool,
           .rotary_table = ref::rotary_table,
           .rotary = ref::rotary,
           .gather_rows = ref::gather_rows};
  k.pack = ref::pack;
  return k;
}

}  // namespace ft::cpu
