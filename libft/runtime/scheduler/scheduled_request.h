// A request as the scheduler has it: its sequences, its pages, and what it needs of a step's logits. The driving
// thread's only, but for what request.h offers to all.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "decode/beam_search.h"
#include "runtime/plan/sampling_metadata.h"
#include "runtime/scheduler/model_limits.h"
#include "runtime/scheduler/request.h"
#include "runtime/scheduler/request_plan.h"
#include "runtime/scheduler/sequence.h"
#include "runtime/scheduler/soft_prompt.h"

namespace ft::runtime {

class scheduled_request final : public request {
 public:
  scheduled_request(const model_limits& limits, const request_plan& plan, decode::options settings,
                    request_callbacks callbacks, soft_prompt soft, bool shares_prefix,
                    std::shared_ptr<std::atomic<bool>> cancellations);

  int64_t source_length() const { return static_cast<int64_t>(source.size()); }
  bool is_two_sided() const { return source_length() > 0; }  // for an encoder-decoder
  bool awaits_encoder() const { return is_two_sided() && source_pages.empty(); }
  bool prompt_computed() const { return num_live > 0 && sequences[0].computed >= prompt_length(); }
  bool reuses_prefix() const { return shares_prefix && !keeps_prompt_logprobs(); }  // of these all logits are wanted
  bool is_forked() const { return num_live == sequences.size(); }
  std::span<sequence> live() { return {sequences.data(), num_live}; }
  std::span<const sequence> live() const { return {sequences.data(), num_live}; }

  std::span<const int32_t> new_tokens(const sequence& s) const {
    return std::span(s.tokens).subspan(static_cast<size_t>(prompt_length()));
  }
  int64_t num_new(const sequence& s) const { return s.length() - prompt_length(); }
  // What is needed of the logits that follow a sequence.
  logits_use use_of_logits(const sequence& s) const;
  // Whether the device can go on from the sequence's next token before the host knows it: it chooses it, and what
  // follows depends on it through the network and by penalties alone.
  bool goes_on_unread(const sequence& s) const;
  // The accumulated log-probability of a beam of a search without groups.
  float score_of(const sequence& s) const;
  // The seed of a sequence's draws, and the random number that its next token is drawn with.
  uint64_t seed_of(const sequence& s) const;
  double uniform_of(const sequence& s) const;

  // Gives every page back.
  void release_pages(page_allocator& pages) noexcept;

  const std::vector<int32_t> source;  // the encoder's input; empty where the model has no encoder
  const int64_t last_length;          // tokens after which a sequence ends
  const int64_t most_pages;           // that it can come to hold
  const soft_prompt soft;             // of the source, where there is one
  const bool shares_prefix;           // its pages depend on its tokens alone, and may serve other requests

  std::vector<sequence> sequences;    // settings().width() of them
  std::vector<int32_t> source_pages;  // of the decoder's keys and values of the source; all sequences read them
  size_t num_live = 1;                // the first ones; until the prompt is computed, one
  std::vector<sequence> next;         // beams: the rows of the step to come, while they are made
  std::unique_ptr<decode::beam_search> beams;
  std::vector<int32_t> pinned_pages;  // the kept ones of its prompt, from the beginning

 private:
  // Whether the device can choose beams, and the next step go on from whichever it chooses.
  bool searches_unread() const;
  // Whether the host has changes to make of which the device knows nothing.
  bool needs_logits_here(const sequence& s) const;

  const bool device_can_search_;
};

}  // namespace ft::runtime
