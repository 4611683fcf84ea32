// The operations a backend provides.
//
// Activations have the dtype that backend::activation_type says, one for all in a call but where an operation says
// otherwise; small weights (norms, biases), rotary tables and biases of attention are f32, and so are accumulators.
// An entry that is null is an optional fusion the backend does without.
#pragma once

#include "ops/activation.h"
#include "ops/argmax.h"
#include "ops/attention.h"
#include "ops/beams.h"
#include "ops/edit_logits.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/gated_linear.h"
#include "ops/kv_cache.h"
#include "ops/linear.h"
#include "ops/log_softmax.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "ops/rotary.h"
#include "ops/rows.h"
#include "ops/sample.h"
#include "ops/sampling_threshold.h"
#include "ops/top_k.h"

namespace ft {

struct op_table {
  void (*activation)(exec&, const activation_args&) = nullptr;
  void (*gated_activation)(exec&, const gated_activation_args&) = nullptr;
  void (*attention)(exec&, const attention_args&) = nullptr;
  void (*paged_attention)(exec&, const paged_attention_args&) = nullptr;
  bool (*paged_self_attention)(exec&, const paged_self_attention_args&) = nullptr;  // optional; false: not taken
  void (*add)(exec&, const add_args&) = nullptr;
  void (*scale)(exec&, const scale_args&) = nullptr;
  void (*embedding)(exec&, const embedding_args&) = nullptr;
  void (*embedding_sum)(exec&, const embedding_sum_args&) = nullptr;  // optional
  void (*kv_write)(exec&, const kv_write_args&) = nullptr;
  void (*rotary_kv_write)(exec&, const rotary_kv_write_args&) = nullptr;  // optional
  void (*kv_copy)(exec&, const kv_copy_args&) = nullptr;
  void (*linear)(exec&, const linear_args&) = nullptr;
  bool (*gated_linear)(exec&, const gated_linear_args&) = nullptr;  // optional; false: not taken
  void (*log_softmax)(exec&, const log_softmax_args&) = nullptr;
  void (*argmax)(exec&, const argmax_args&) = nullptr;
  void (*top_k)(exec&, const top_k_args&) = nullptr;
  void (*sampling_threshold)(exec&, const sampling_threshold_args&) = nullptr;
  void (*sample)(exec&, const sample_args&) = nullptr;
  void (*edit_logits)(exec&, const edit_logits_args&) = nullptr;
  void (*choose_beams)(exec&, const choose_beams_args&) = nullptr;
  void (*reorder_beams)(exec&, const reorder_beams_args&) = nullptr;
  void (*norm)(exec&, const norm_args&) = nullptr;
  void (*pool)(exec&, const pool_args&) = nullptr;
  void (*rotary_table)(exec&, const rotary_table_args&) = nullptr;
  void (*rotary)(exec&, const rotary_args&) = nullptr;
  void (*gather_rows)(exec&, const gather_rows_args&) = nullptr;
};

}  // namespace ft
