// What a step makes of its logits on the device, and what of them the host gets to choose from: of each row no more
// than its request asks for, since whole rows are as long as the vocabulary.
#pragma once

#include <compare>
#include <cstdint>
#include <span>

#include "arch/network.h"
#include "decode/candidates.h"
#include "nn/run.h"

namespace ft::runtime {

// A step's rows of logits: how many there are of each kind, which lie in this order.
struct logit_rows {
  int64_t log_probabilities = 0;  // whole, after log_softmax
  int64_t logits = 0;             // whole
  int64_t candidates = 0;         // the best `num_candidates` of each
  int64_t best = 0;               // the index of the highest
  int64_t num_candidates = 0;

  int64_t whole() const { return log_probabilities + logits; }
  int64_t total() const { return whole() + candidates + best; }
  auto operator<=>(const logit_rows&) const = default;
};

// The same where a step leaves it, on the device; null where there is none.
struct logit_results {
  tensor whole;   // [rows, vocab_size] f32
  tensor chosen;  // i32 and f32: the rest, as step_logits lays it out
};

class step_logits {
 public:
  // Queues the work that gives `rows` the logits that follow the tokens `index` ([rows], i32, on the device) of
  // hidden [tokens, hidden_size].
  static logit_results compute(nn::run& run, const arch::network& network, const tensor& hidden, const tensor& index,
                               const logit_rows& rows);

  // Makes room on the host; before the pass.
  void expect(backend& device, const logit_rows& rows, int64_t vocab_size);
  // Waits for the results.
  void download(nn::run& run, const logit_results& made);

  // Of a row in the step. A whole row may be changed in place.
  bool is_whole(int32_t row) const { return row < rows_.whole(); }
  bool has_candidates(int32_t row) const { return !is_whole(row) && row < rows_.whole() + rows_.candidates; }
  std::span<float> whole(int32_t row) const;
  decode::candidate_row candidates(int32_t row) const;
  int32_t best(int32_t row) const;  // -1: none is a number

 private:
  logit_rows rows_;
  size_t vocab_size_ = 0;
  buffer whole_, chosen_;  // what is fastest to copy to; only ever grown
};

}  // namespace ft::runtime
