// One step as plain data: which tokens of which rows are computed, where their keys and values go, what of the logits
// is wanted. A scheduler composes it, every rank of a model executes it; it names pages by number and holds no pointer
// to anything, so that it can be written to bytes for a rank elsewhere (plan/plan_bytes.h).
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "runtime/plan/sampling_metadata.h"

namespace ft::runtime {

// Consecutive tokens of a step whose embeddings are given.
struct embedded_span {
  int32_t first_token = 0;
  int32_t count = 0;
};
struct embedded_tokens {
  std::vector<embedded_span> spans;
  std::vector<float> values;  // [tokens of all spans, the embedding's width]

  bool empty() const { return spans.empty(); }
};

// Sources of encoder-decoders, read whole by the encoder.
struct encoder_plan {
  std::vector<int32_t> token_ids;       // [tokens], rows one after another
  std::vector<int32_t> positions;       // [tokens]
  std::vector<int32_t> slots;           // [tokens]: where each decoder layer's keys and values of them go
  std::vector<int32_t> row_offsets{0};  // [rows + 1]
  embedded_tokens embedded;

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  bool empty() const { return token_ids.empty(); }

  template <class Plan, class Visit>
  static void visit_arrays(Plan& p, Visit&& visit) {
    visit("token_ids", p.token_ids);
    visit("positions", p.positions);
    visit("slots", p.slots);
    visit("row_offsets", p.row_offsets);
    visit("embedded.spans", p.embedded.spans);
    visit("embedded.values", p.embedded.values);
  }
};

// Keys and values that a request gives for positions before its tokens (prefix tuning).
struct prefix_span {
  int32_t first_slot = 0;  // among prefix_slots
  int32_t length = 0;
};

// A run of the step's tokens, each of whose next tokens' log-probability is wanted.
struct scored_span {
  int32_t first_token = 0;
  int32_t first_score = 0;  // among scored_ids, and among the results
  int32_t count = 0;
};

// Whatever decides which operations a step of single tokens runs up to the rows whose logits are wanted, and where they
// read.
struct decode_shape {
  int64_t rows = 0;
  int64_t table_width = 0;
  int64_t cross_table_width = 0;
  int64_t groups = 0;
  int64_t widest_group = 0;
  int64_t logits_rows = 0;
  bool reorders_beams = false;
  auto operator<=>(const decode_shape&) const = default;
};

struct step_plan {
  uint64_t session = 0;  // whose pages it names
  int32_t slot = 0;      // of the two steps that a session may have under way, which one

  encoder_plan sources;

  std::vector<int32_t> token_ids;         // [tokens]; -1 - place: what an earlier step chose (ops/embedding.h)
  std::vector<int32_t> positions;         // [tokens]
  std::vector<int32_t> slots;             // [tokens]
  std::vector<int32_t> row_offsets{0};    // [rows + 1]
  std::vector<int32_t> context_lengths;   // [rows]
  std::vector<int32_t> page_table;        // [rows, table_width]
  std::vector<int32_t> cross_page_table;  // [rows, cross_table_width]; of encoder-decoders
  std::vector<int32_t> cross_lengths;     // [rows]
  std::vector<int32_t> group_offsets, shared_lengths;  // of rows that share keys (ops/attention.h)
  std::vector<int32_t> cross_shared_lengths;
  int64_t widest_group = 0;  // 0: there are no groups
  embedded_tokens embedded;

  std::vector<int32_t> copy_from, copy_to, copy_tokens;  // pages that are about to be written to and are shared
  std::vector<int32_t> place, first, fresh;              // [rows], of beams yet to be chosen (ops/beams.h); or none
  std::vector<prefix_span> prefixes;
  std::vector<int32_t> prefix_slots;
  std::vector<float> prefix_values;  // of each prefix [layers, 2, num_kv_heads, length, head_dim]

  std::vector<scored_span> scored;
  std::vector<int32_t> scored_ids;  // the tokens that follow; -1: an embedding, which has no probability

  sampling_metadata sampling;

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_rows() const { return static_cast<int64_t>(row_offsets.size()) - 1; }
  int64_t table_width() const { return width_of(page_table); }
  int64_t cross_table_width() const { return width_of(cross_page_table); }
  bool reorders_beams() const { return !place.empty(); }
  bool has_rows() const { return num_rows() > 0; }
  bool empty() const { return sources.empty() && !has_rows(); }
  // Whether every row is one token that follows what was computed before: a step that repeats the last one of its
  // shape.
  bool only_decodes() const {
    return num_tokens() == num_rows() && embedded.empty() && scored.empty() && prefixes.empty() && has_rows();
  }
  decode_shape shape() const {
    return {num_rows(),   table_width(),          cross_table_width(), static_cast<int64_t>(shared_lengths.size()),
            widest_group, sampling.shape.total(), reorders_beams()};
  }

  // Keeps the arrays' memory, so that a steady step allocates nothing.
  void clear() {
    visit_arrays(*this, [](const char*, auto& array) { array.clear(); });
    row_offsets.assign(1, 0);
    sources.row_offsets.assign(1, 0);
    widest_group = 0;
    sampling.shape = {};
  }

  // visit(name, array) for each array.
  template <class Plan, class Visit>
  static void visit_arrays(Plan& p, Visit&& visit) {
    encoder_plan::visit_arrays(p.sources, visit);
    visit("token_ids", p.token_ids);
    visit("positions", p.positions);
    visit("slots", p.slots);
    visit("row_offsets", p.row_offsets);
    visit("context_lengths", p.context_lengths);
    visit("page_table", p.page_table);
    visit("cross_page_table", p.cross_page_table);
    visit("cross_lengths", p.cross_lengths);
    visit("group_offsets", p.group_offsets);
    visit("shared_lengths", p.shared_lengths);
    visit("cross_shared_lengths", p.cross_shared_lengths);
    visit("embedded.spans", p.embedded.spans);
    visit("embedded.values", p.embedded.values);
    visit("copy_from", p.copy_from);
    visit("copy_to", p.copy_to);
    visit("copy_tokens", p.copy_tokens);
    visit("place", p.place);
    visit("first", p.first);
    visit("fresh", p.fresh);
    visit("prefixes", p.prefixes);
    visit("prefix_slots", p.prefix_slots);
    visit("prefix_values", p.prefix_values);
    visit("scored", p.scored);
    visit("scored_ids", p.scored_ids);
    sampling_metadata::visit_arrays(p.sampling, visit);
  }
  // visit(value) for what is no array.
  template <class Plan, class Visit>
  static void visit_values(Plan& p, Visit&& visit) {
    visit(p.session);
    visit(p.slot);
    visit(p.widest_group);
    visit(p.sampling.shape);
  }

 private:
  int64_t width_of(const std::vector<int32_t>& table) const {
    return has_rows() ? static_cast<int64_t>(table.size()) / num_rows() : 0;
  }
};

}  // namespace ft::runtime
