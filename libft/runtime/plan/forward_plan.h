// A pass over whole sequences as plain data: what forward() has every rank of a model compute. As a step's plan
// (step_plan.h), it can be written to bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/pool_kind.h"

namespace ft::runtime {

// What stands in the place of token ids.
enum class embedded_by : uint8_t {
  nothing,
  plan,       // the plan has the embeddings
  first_rank  // whoever asked for the pass gives them to rank 0 (worker/forward_pass.h), which hands them on
};

// One side of a model: all that an encoder, a decoder without cache, or the only stack reads. Tokens of all rows lie
// one after another.
struct forward_side {
  std::vector<int32_t> token_ids;       // [tokens]; zeros where embeddings stand for them
  std::vector<int32_t> token_type_ids;  // [tokens], or empty
  std::vector<int32_t> positions;       // [tokens]
  std::vector<int32_t> row_offsets;     // [rows + 1]; empty: the side is not computed
  std::vector<float> embeddings;        // [tokens, the embeddings' width], or empty
  embedded_by embedded = embedded_by::nothing;
  dtype embedding_type = dtype::f32;  // of those that rank 0 is given

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  bool empty() const { return row_offsets.empty(); }
};

struct forward_plan {
  forward_side input;   // of the only stack, or of the encoder
  forward_side target;  // of the decoder; empty where there is none, or it is not to run

  // Which outputs are wanted (forward/forward.h).
  struct outputs {
    bool hidden = false;
    bool encoder_hidden = false;
    bool pooled = false;
    bool embedding = false;
    bool logits = false;
  } wanted;
  pool_kind pooling = pool_kind::mean;  // of the embedding
  bool normalize = true;

  // As step_plan has them.
  template <class Plan, class Visit>
  static void visit_arrays(Plan& p, Visit&& visit) {
    for (auto* side : {&p.input, &p.target}) {
      visit("token_ids", side->token_ids);
      visit("token_type_ids", side->token_type_ids);
      visit("positions", side->positions);
      visit("row_offsets", side->row_offsets);
      visit("embeddings", side->embeddings);
    }
  }
  template <class Plan, class Visit>
  static void visit_values(Plan& p, Visit&& visit) {
    for (auto* side : {&p.input, &p.target}) {
      visit(side->embedded);
      visit(side->embedding_type);
    }
    visit(p.wanted);
    visit(p.pooling);
    visit(p.normalize);
  }
};

}  // namespace ft::runtime
