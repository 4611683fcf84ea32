// What a request makes of a step's logits: its next tokens, which sequences go on, and whether the request has ended.
// Used by the session's driving thread alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/processors.h"
#include "decode/sampler.h"
#include "ops/exec.h"
#include "runtime/page_pool.h"
#include "runtime/request.h"
#include "runtime/step_logits.h"

namespace ft::runtime {

class token_chooser {
 public:
  explicit token_chooser(int64_t vocab_size);

  // Why the request has ended; FT_FINISH_NONE while it goes on. `callback` names the one that cancelled it.
  struct verdict {
    ft_finish_reason reason = FT_FINISH_NONE;
    const char* callback = nullptr;
  };

  // The step's logits are spoilt.
  // Throws ft::error when no token can be chosen.
  verdict choose(request& r, step_logits& logits, page_pool& pool);

  uint64_t chosen() const { return chosen_; }  // tokens so far
  uint64_t copied() const { return copied_; }  // pages so far, in steps that were queued before their beams were known

 private:
  std::span<float> row_of(const sequence& s, step_logits& logits, bool keep);
  bool process(request& r, const sequence& s, std::span<float> row);
  float log_probability(std::span<float> logits, int32_t token);
  verdict choose_each(request& r, step_logits& logits, page_pool& pool);
  verdict choose_one(request& r, size_t index, step_logits& logits, bool keep, page_pool& pool);
  bool pick(request& r, const sequence& s, step_logits& logits, bool keep, decode::sampler::choice& choice);
  bool pick_here(request& r, const sequence& s, std::span<float> row, decode::sampler::choice& choice);
  verdict choose_beams(request& r, step_logits& logits, page_pool& pool);
  bool offer_beam(request& r, decode::beam_group& group, size_t beam, const sequence& s, step_logits& logits,
                  bool keep);
  void follow(request& r, size_t index, std::span<const decode::continuation> running, const step_logits& logits,
              page_pool& pool);
  int asks_to_stop(request& r, const sequence& s, int32_t token);
  verdict publish_beams(request& r);
  verdict publish_settled(request& r, std::span<const int32_t> tokens);

  uint64_t chosen_ = 0, copied_ = 0;
  decode::logit_editor editor_;
  decode::sampler sampler_;
  arena scratch_;
  exec host_;                // for what is computed of logits once they are here
  std::vector<float> copy_;  // [vocab_size], of a row that several sequences share
  std::vector<float> raw_;   // [vocab_size], of a row before it is processed
  std::vector<int32_t> continued_;
  std::vector<int32_t> group_tokens_;  // what the groups of a diverse search have chosen in this step
  std::vector<decode::beam_history> histories_;
};

}  // namespace ft::runtime
