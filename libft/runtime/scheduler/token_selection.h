// What a request makes of a step's results: its next tokens, which sequences go on, and whether the request has ended.
// Used by the driving thread alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "decode/processors.h"
#include "decode/sampler.h"
#include "runtime/plan/step_results.h"
#include "runtime/scheduler/page_allocator.h"
#include "runtime/scheduler/scheduled_request.h"

namespace ft::runtime {

class token_selection {
 public:
  // log_softmax(row) is in place, and to the bit what gives the log-probabilities of prompts where there is no device.
  token_selection(int64_t vocab_size, std::function<void(std::span<float>)> log_softmax);

  // Why the request has ended; FT_FINISH_NONE while it goes on. `callback` names the one that cancelled it.
  struct verdict {
    ft_finish_reason reason = FT_FINISH_NONE;
    const char* callback = nullptr;
  };

  // The step's logits are spoilt.
  // Throws ft::error when no token can be chosen.
  verdict choose(scheduled_request& r, const step_results& results, page_allocator& pool);

  uint64_t chosen() const { return chosen_; }  // tokens so far
  uint64_t copied() const { return copied_; }  // pages so far, in steps that were queued before their beams were known

 private:
  std::span<float> row_of(const sequence& s, const step_results& results, bool keep);
  bool process(scheduled_request& r, const sequence& s, std::span<float> row);
  float log_probability(std::span<float> logits, int32_t token);
  verdict choose_each(scheduled_request& r, const step_results& results, page_allocator& pool);
  verdict choose_one(scheduled_request& r, size_t index, const step_results& results, bool keep, page_allocator& pool);
  bool pick(scheduled_request& r, const sequence& s, const step_results& results, bool keep,
            decode::sampler::choice& choice);
  bool pick_here(scheduled_request& r, const sequence& s, std::span<float> row, decode::sampler::choice& choice);
  verdict choose_beams(scheduled_request& r, const step_results& results, page_allocator& pool);
  bool offer_beam(scheduled_request& r, decode::beam_group& group, size_t beam, const sequence& s,
                  const step_results& results, bool keep);
  void follow(scheduled_request& r, size_t index, std::span<const decode::continuation> running,
              const step_results& results, page_allocator& pool);
  int asks_to_stop(scheduled_request& r, const sequence& s, int32_t token);
  verdict publish_beams(scheduled_request& r);
  verdict publish_settled(scheduled_request& r, std::span<const int32_t> tokens);

  uint64_t chosen_ = 0, copied_ = 0;
  decode::logit_editor editor_;
  decode::sampler sampler_;
  const std::function<void(std::span<float>)> log_softmax_;
  std::vector<float> copy_;  // [vocab_size], of a row that several sequences share
  std::vector<float> raw_;   // [vocab_size], of a row before it is processed
  std::vector<int32_t> continued_;
  std::vector<int32_t> group_tokens_;  // what the groups of a diverse search have chosen in this step
  std::vector<decode::beam_history> histories_;
};

}  // namespace ft::runtime
