// What a step brings to the host: whole rows of logits, what the device has chosen of the others, and the
// log-probabilities of prompts. A view; the memory is a worker's, and good until the slot's next step.
#pragma once

#include <cstdint>
#include <span>

#include "decode/candidates.h"
#include "decode/sampler.h"
#include "runtime/plan/sampling_metadata.h"

namespace ft::runtime {

// Rows are counted as the plan's sampling has them.
class step_results {
 public:
  step_results() = default;
  // `whole` [rows that go to the host, vocab_size]; `chosen` as choice_layout has it.
  step_results(const sampling_shape& shape, int64_t vocab_size, float* whole, const int32_t* chosen,
               std::span<const float> prompt_logprobs)
      : at_(shape),
        num_candidates_(static_cast<size_t>(shape.num_candidates)),
        log_probabilities_(shape.rows_with(&use_properties::log_softmax)),
        whole_rows_(shape.rows_with(&use_properties::to_host)),
        vocab_size_(static_cast<size_t>(vocab_size)),
        whole_(whole),
        chosen_(chosen),
        prompt_logprobs_(prompt_logprobs) {}

  bool is_whole(int32_t row) const { return whole_rows_.contains(row); }
  bool has_candidates(int32_t row) const { return at_.candidates.contains(row) && !at_.drawn.contains(row); }
  bool is_drawn(int32_t row) const { return at_.drawn.contains(row); }

  // May be changed in place; it is not edited yet.
  std::span<float> whole(int32_t row) const { return {whole_ + static_cast<size_t>(row) * vocab_size_, vocab_size_}; }
  decode::candidate_row candidates(int32_t row) const {
    const int64_t i = row - at_.candidates.begin, first = i * static_cast<int64_t>(num_candidates_);
    decode::candidate_row found{{floats() + first, num_candidates_}, {chosen_ + at_.index_at + first, num_candidates_}};
    if (!log_probabilities_.contains(row)) {
      found.highest = found.logits[0];
      found.log_sum = floats()[at_.log_sum_at + i];
    }
    return found;
  }
  // Of a row that is drawn from; token -1: none is a number.
  decode::sampler::choice drawn(int32_t row) const {
    const int64_t i = row - at_.drawn.begin;
    return {chosen_[at_.token_at + i], floats()[at_.log_prob_at + i]};
  }
  // Of that token, before cuts; of rows that have candidates too.
  float raw_log_probability(int32_t row) const {
    const int64_t i = row - at_.candidates.begin;
    return floats()[at_.logit_at + row - at_.drawn.begin] - floats()[i * static_cast<int64_t>(num_candidates_)] -
           floats()[at_.log_sum_at + i];
  }
  // -1: none is a number.
  int32_t best(int32_t row) const { return chosen_[at_.best_at + row - at_.best.begin]; }
  // What comes in the place of the beam of this row.
  beam_choice next_beam(int32_t row) const {
    return reinterpret_cast<const beam_choice*>(chosen_ + at_.next_at)[row - at_.next_beams.begin];
  }

  // As the plan's scored_ids.
  std::span<const float> prompt_logprobs() const { return prompt_logprobs_; }

 private:
  const float* floats() const { return reinterpret_cast<const float*>(chosen_); }

  choice_layout at_{sampling_shape{}};
  size_t num_candidates_ = 0;
  row_range log_probabilities_, whole_rows_;
  size_t vocab_size_ = 0;
  float* whole_ = nullptr;
  const int32_t* chosen_ = nullptr;
  std::span<const float> prompt_logprobs_;
};

// Where among the chosen the device leaves the token of a row that it chooses itself: drawn, the best, or the first of
// candidates; of a beam, its beam_choice.
inline int32_t place_of_choice(const sampling_shape& shape, int32_t row) {
  const choice_layout at(shape);
  const auto place = [&] {
    if (at.next_beams.contains(row)) return at.next_at + (row - at.next_beams.begin) * beam_choice_size;
    if (at.drawn.contains(row)) return at.token_at + row - at.drawn.begin;
    if (at.candidates.contains(row)) return at.index_at + (row - at.candidates.begin) * shape.num_candidates;
    return at.best_at + row - at.best.begin;
  };
  return static_cast<int32_t>(place());
}

}  // namespace ft::runtime
