// One prompt and what becomes of it. Made by session::prepare; finished by the session's steps.
#pragma once

#include <ft/generate.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "decode/beam_search.h"
#include "decode/options.h"
#include "runtime/request_plan.h"
#include "runtime/sequence.h"
#include "runtime/soft_prompt.h"

namespace ft::runtime {

class session;

struct request_callbacks {
  // Each new token of the first sequence, when it is settled. Returns FT_CONTINUE, FT_STOP, or anything else to cancel.
  std::function<int(int32_t token)> on_token;
  // May rewrite the logits that follow `tokens` (prompt and new ones), the first before forced tokens and the second
  // after them. Returns as on_token, FT_STOP excepted.
  std::function<int(std::span<const int32_t> tokens, std::span<float> logits)> constrain_logits, on_logits;
  // Whether a sequence ends with the last of `tokens` (prompt and new ones). Returns FT_CONTINUE, FT_STOP, or anything
  // else to cancel. Asked of every sequence and of every beam's best continuations.
  std::function<int(std::span<const int32_t> tokens)> should_stop;
};

// A sequence as the caller sees it. While beams run, the first one holds the tokens that are settled.
struct output {
  std::vector<int32_t> tokens;  // new ones
  std::vector<float> logprobs;  // of these, where they are kept
  float score = 0;              // Σ log-probabilities / length ^ length_penalty; NaN where they are not kept
  ft_finish_reason finish_reason = FT_FINISH_NONE;
};

// What a request needs of the logits that follow one of its sequences (runtime/logit_plan.h).
enum class logits_use : uint8_t {
  logits,
  log_probabilities,
  beam_candidates,
  next_beams,
  candidates,
  cut,
  sampled,
  best
};

class request {
 public:
  request(std::shared_ptr<session> owner, const request_plan& plan, decode::options settings,
          request_callbacks callbacks, soft_prompt soft);

  // Any thread.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  ft_finish_reason finish_reason() const { return finish_.load(std::memory_order_acquire); }
  bool finished() const { return finish_reason() != FT_FINISH_NONE; }
  bool keeps_logprobs() const { return settings_.logprobs != decode::logprobs_kind::none; }
  int64_t prompt_length() const { return prompt_length_; }
  bool keeps_prompt_logprobs() const { return settings_.prompt_logprobs; }
  size_t num_outputs() const;
  // Calls read(const output&) with the index-th sequence, or throws (FT_ERROR_INVALID_ARGUMENT).
  template <class Read>
  void read_output(size_t index, Read&& read) const {
    std::lock_guard lock(mutex_);
    if (index >= num_outputs_) fail_index(index);
    read(outputs_[index]);
  }
  // Calls read(std::span<const float>) with one value for each prompt token, NaN where it is not computed.
  template <class Read>
  void read_prompt_logprobs(Read&& read) const {
    std::lock_guard lock(mutex_);
    read(std::span<const float>(prompt_logprobs_));
  }
  // After it has finished: why, for reasons _CANCELLED and _ERROR.
  ft_status status() const { return status_; }
  const std::string& message() const { return message_; }
  const std::shared_ptr<session>& owner() const { return owner_; }
  // For a request that was prepared and never submitted: lets go of what its callbacks hold.
  void abandon() { callbacks_ = {}; }

 private:
  friend class session;
  friend class token_chooser;
  friend class step_batch;
  friend class logit_plan;
  friend class encoder_batch;

  [[noreturn]] void fail_index(size_t index) const;
  int64_t source_length() const { return static_cast<int64_t>(source_.size()); }
  bool is_two_sided() const { return source_length() > 0; }  // for an encoder-decoder
  bool awaits_encoder() const { return is_two_sided() && source_pages_.empty(); }
  bool prompt_computed() const { return live_ > 0 && sequences_[0].computed >= prompt_length_; }
  bool reuses_prefix() const { return shares_prefix_ && !keeps_prompt_logprobs(); }  // of these all logits are wanted
  std::span<const int32_t> new_tokens(const sequence& s) const {
    return std::span(s.tokens).subspan(static_cast<size_t>(prompt_length_));
  }
  int64_t num_new(const sequence& s) const { return s.length() - prompt_length_; }
  logits_use use_of_logits(const sequence& s) const;
  // Whether the device can go on from the sequence's next token before the host knows it: it chooses it, and what
  // follows depends on it through the network and by penalties alone.
  bool goes_on_unread(const sequence& s) const;
  // Whether that is so although the sequence is a beam, which goes on from whichever beam the device chooses.
  bool searches_unread() const;
  // Whether the host has changes to make of which the device knows nothing.
  bool needs_logits_here(const sequence& s) const;
  // The accumulated log-probability of a beam of a search without groups.
  float score_of(const sequence& s) const;
  // The seed of a sequence's draws, and the random number that its next token is drawn with.
  uint64_t seed_of(const sequence& s) const;
  double uniform_of(const sequence& s) const;
  std::span<sequence> live() { return {sequences_.data(), live_}; }
  std::span<const sequence> live() const { return {sequences_.data(), live_}; }

  const std::shared_ptr<session> owner_;
  const decode::options settings_;
  request_callbacks callbacks_;
  const std::vector<int32_t> source_;  // the encoder's input; empty where the model has no encoder
  const int64_t prompt_length_;
  const int64_t last_length_;  // tokens after which a sequence ends

  std::atomic<bool> cancelled_{false};
  std::atomic<ft_finish_reason> finish_{FT_FINISH_NONE};

  mutable std::mutex mutex_;     // guards the three below against readers; only the driving thread writes
  std::vector<output> outputs_;  // one a returned sequence, reserved to their final length
  size_t num_outputs_ = 0;       // fewer while the prompt runs, and when beams find fewer sequences than were asked for
  std::vector<float> prompt_logprobs_;  // [prompt_length], where they are kept

  // The driving thread's only.
  std::vector<sequence> sequences_;    // settings_.width() of them
  std::vector<int32_t> source_pages_;  // of the decoder's keys and values of the source; all sequences read them
  size_t live_ = 1;                    // the first ones; until the prompt is computed, one
  std::vector<sequence> next_;         // beams: the rows of the step to come, while they are made
  std::unique_ptr<decode::beam_search> beams_;
  const int64_t most_pages_;           // that it can come to hold
  std::vector<int32_t> pinned_pages_;  // the kept ones of its prompt, from the beginning
  const soft_prompt soft_;             // of the source, where there is one
  bool shares_prefix_ = false;         // its pages depend on its tokens alone, and may serve other requests
  ft_status status_ = FT_OK;           // written before finish_
  std::string message_;
};

}  // namespace ft::runtime
