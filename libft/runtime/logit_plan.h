// What a step's requests ask of its logits: of each row that follows a sequence no more than its request needs, since
// whole rows are as long as the vocabulary and the host is far away. With it goes what the device needs to know for
// that: edits by penalties and bans, temperatures, random numbers.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "decode/processors.h"
#include "ops/top_k.h"
#include "runtime/request.h"

namespace ft::runtime {

// A step's rows of logits: how many there are of each kind, which lie in this order.
struct logit_rows {
  int64_t logits = 0;             // whole
  int64_t log_probabilities = 0;  // whole, after log_softmax
  int64_t beam_candidates = 0;    // the best `num_candidates` of each, after log_softmax and edits
  int64_t next_beams = 0;         // the same without edits, and which continuations of a search go on
  int64_t candidates = 0;         // the best `num_candidates` of each, after edits
  int64_t cut = 0;                // a token drawn from what is left of each, after edits; and candidates for that
  int64_t sampled = 0;            // a token drawn from each, after edits
  int64_t best = 0;               // the index of the highest of each, after edits
  int64_t num_candidates = 0;
  int64_t num_edits = 0;   // those that are none among them
  int64_t num_late = 0;    // edits of tokens that are yet to be read: one a row, or 0
  int64_t num_groups = 0;  // of the next beams
  int64_t num_stops = 0;   // of each of these groups, those that are none among them

  // Where each kind begins.
  int64_t first_candidates() const { return logits + log_probabilities; }
  int64_t first_next_beam() const { return first_candidates() + beam_candidates; }
  int64_t first_cut() const { return first_next_beam() + next_beams + candidates; }
  int64_t first_sampled() const { return first_cut() + cut; }
  int64_t first_best() const { return first_sampled() + sampled; }
  int64_t total() const { return first_best() + best; }
  auto operator<=>(const logit_rows&) const = default;
};

// The arrays keep their memory, so that a steady step allocates nothing. They hold the bits of what they are uploaded
// as.
class logit_plan {
 public:
  static constexpr int64_t most_candidates = std::bit_ceil(size_t{most_top_k});

  explicit logit_plan(int64_t vocab_size) : editor_(vocab_size) {}
  void reserve(int64_t rows);
  void clear();

  // One step's rows: add() all of a kind, and all kinds in the order of logit_rows. `row` of the step has `token` as
  // its last. Returns the row's place.
  int32_t add(logits_use use, const request& r, const sequence& s, int32_t row, int32_t token);
  void finish();

  const logit_rows& rows() const { return rows_; }

  struct field {
    tensor* on_device;
    std::vector<int32_t>* bits;
  };
  // What has to be uploaded, as flat int32; view() then gives the tensors their own dtypes and shapes.
  std::array<field, 10> fields();
  void view();

  // On the device; null where there is nothing.
  tensor tokens;        // [rows] i32: which tokens of the step the logits follow
  tensor edits;         // [num_edits, 3] i32, as ops/edit_logits.h has them
  tensor penalties;     // [rows, 3] f32
  tensor late_edits;    // [rows, 2] i32
  tensor temperatures;  // [rows with candidates + sampled] f32
  tensor uniforms;      // [cut + sampled] f64
  tensor cuts;          // [cut, 3] f64, as ops/sampling_threshold.h has them
  tensor beam_rows;     // [next beams] i32: which rows of the step they are
  tensor beam_offsets;  // [num_groups + 1] i32, of the next beams
  tensor beam_stops;    // [num_groups, num_stops] i32

 private:
  void list_stops();

  logit_rows rows_;
  bool has_late_edits_ = false;
  decode::logit_editor editor_;
  std::vector<int32_t> tokens_, edits_, penalties_, late_edits_, temperatures_, uniforms_, cuts_, beam_rows_,
      beam_offsets_, beam_stops_;
  std::vector<const request*> searches_;  // whose beams the groups are
};

}  // namespace ft::runtime
