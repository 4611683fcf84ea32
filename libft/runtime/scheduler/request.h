// One prompt and what becomes of it, as the caller sees it from any thread. The scheduler's own side of it is in
// scheduled_request.h.
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

#include "decode/options.h"

namespace ft::runtime {

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

class request {
 public:
  // `most_new` new tokens at most. cancel() sets `cancellations`, so that a scheduler looks for who was.
  request(decode::options settings, request_callbacks callbacks, int64_t prompt_length, int64_t most_new,
          std::shared_ptr<std::atomic<bool>> cancellations);
  virtual ~request() = default;
  request(const request&) = delete;
  request& operator=(const request&) = delete;

  // Any thread.
  void cancel() {
    cancelled_.store(true);
    cancellations_->store(true);
  }
  bool cancelled() const { return cancelled_.load(); }
  ft_finish_reason finish_reason() const { return finish_.load(std::memory_order_acquire); }
  bool finished() const { return finish_reason() != FT_FINISH_NONE; }
  const decode::options& settings() const { return settings_; }
  bool keeps_logprobs() const { return settings_.logprobs != decode::logprobs_kind::none; }
  bool keeps_prompt_logprobs() const { return settings_.prompt_logprobs; }
  int64_t prompt_length() const { return prompt_length_; }
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
  // For a request that was prepared and never submitted: lets go of what its callbacks hold.
  void abandon() { callbacks_ = {}; }

  // The driving thread's: what readers then see. Nothing here allocates.
  const request_callbacks& callbacks() const { return callbacks_; }
  void show_outputs(size_t count);
  void append(size_t index, int32_t token, float logprob);  // the log-probability where they are kept
  void append_settled(int32_t token);                       // to the first, while beams run
  void end_output(size_t index, ft_finish_reason reason, float score);
  void replace_output(size_t index, std::span<const int32_t> tokens, std::span<const float> logprobs, float score,
                      ft_finish_reason reason);
  // Of the prompt tokens from the `first` on, whose ids these are; -1: an embedding, which has no probability.
  void set_prompt_logprobs(size_t first, std::span<const float> values, std::span<const int32_t> ids);
  // Of the driver's own writing, so without the lock.
  const output& output_at(size_t index) const { return outputs_[index]; }
  // The last that is heard of it: outputs that have not ended yet end with this reason. The message may get lost where
  // memory is out.
  void finish(ft_finish_reason reason, ft_status status, const char* message) noexcept;

 private:
  [[noreturn]] void fail_index(size_t index) const;

  const decode::options settings_;
  request_callbacks callbacks_;
  const int64_t prompt_length_;
  const std::shared_ptr<std::atomic<bool>> cancellations_;
  std::atomic<bool> cancelled_{false};
  std::atomic<ft_finish_reason> finish_{FT_FINISH_NONE};

  mutable std::mutex mutex_;     // guards the three below against readers; only the driving thread writes
  std::vector<output> outputs_;  // one a returned sequence, reserved to their final length
  size_t num_outputs_ = 1;       // fewer while the prompt runs, and when beams find fewer sequences than were asked for
  std::vector<float> prompt_logprobs_;  // [prompt_length], where they are kept

  ft_status status_ = FT_OK;  // written before finish_
  std::string message_;
};

}  // namespace ft::runtime
