// The CUDA backend's table of operations.
#include "backends/cuda/cuda_ops.h"

namespace ft::cuda {

const op_table& cuda_op_table() {
  static const op_table table = [] {
    op_table t;
    t.activation = activation;
    t.gated_activation = gated_activation;
    t.attention = attention;
    t.paged_attention = paged_attention;
    t.add = add;
    t.scale = scale;
    t.embedding = embedding;
    t.embedding_sum = embedding_sum;
    t.kv_write = kv_write;
    t.rotary_kv_write = rotary_kv_write;
    t.paged_self_attention = paged_self_attention;
    t.kv_copy = kv_copy;
    t.linear = linear;
    t.gated_linear = gated_linear;
    t.log_softmax = log_softmax;
    t.argmax = argmax;
    t.top_k = top_k;
    t.sampling_threshold = sampling_threshold;
    t.sample = sample;
    t.edit_logits = edit_logits;
    t.choose_beams = choose_beams;
    t.reorder_beams = reorder_beams;
    t.norm = norm;
    t.pool = pool;
    t.rotary_table = rotary_table;
    t.rotary = rotary;
    t.gather_rows = gather_rows;
    return t;
  }();
  return table;
}

}  // namespace ft::cuda
