// What of a step's logits comes to the host, by its plan (runtime/logit_plan.h), and how the device gets there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/network.h"
#include "decode/candidates.h"
#include "decode/sampler.h"
#include "nn/run.h"
#include "ops/beams.h"
#include "runtime/logit_plan.h"

namespace ft::runtime {

// Where a step leaves them, on the device; null where there is none.
struct logit_results {
  tensor logits;  // [rows, vocab_size] f32, with what became of them on the way
  tensor chosen;  // i32 and f32: everything but whole rows, as step_logits lays it out
};

class step_logits {
 public:
  // Queues the work that gives the logits that follow hidden [tokens, hidden_size], and what the plan asks of them,
  // which goes to `chosen`: i32, most_chosen(rows) elements or more. `scores` [rows of the step] f32 are the beams'.
  static logit_results compute(nn::run& run, const arch::network& network, const tensor& hidden, const logit_plan& plan,
                               const tensor& scores, const tensor& chosen);
  static int64_t most_chosen(int64_t rows);

  // Makes room on the host; before the pass.
  void expect(backend& device, const logit_rows& rows, int64_t vocab_size);
  // Queues the copy of the results to the host.
  void download(nn::run& run, const logit_results& made);

  // Of a row in the step. A whole row may be changed in place; it is not edited yet.
  bool is_whole(int32_t row) const { return row < rows_.first_candidates(); }
  bool has_candidates(int32_t row) const { return !is_whole(row) && row < rows_.first_cut(); }
  // Where among the chosen the device leaves the token of a row that it chooses itself: sampled, the best, or the first
  // of candidates; of a beam, its beam_choice.
  int32_t place_of_choice(int32_t row) const;
  bool has_next_beam(int32_t row) const {
    return row >= rows_.first_next_beam() && row < rows_.first_next_beam() + rows_.next_beams;
  }
  bool is_sampled(int32_t row) const { return row >= rows_.first_cut() && row < rows_.first_best(); }
  std::span<float> whole(int32_t row);
  decode::candidate_row candidates(int32_t row) const;
  decode::sampler::choice sampled(int32_t row) const;  // token -1: none is a number
  float raw_log_probability(int32_t row) const;        // of that token, before cuts; of rows that are cut
  int32_t best(int32_t row) const;                     // -1: none is a number
  beam_choice next_beam(int32_t row) const;            // what comes in the place of the beam of this row

 private:
  logit_rows rows_;
  size_t vocab_size_ = 0;
  buffer whole_, chosen_;  // what is fastest to copy to; only ever grown
};

}  // namespace ft::runtime
