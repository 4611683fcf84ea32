// One prompt and what becomes of it. Made by session::submit; finished by the session's steps.
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

class session;

// What callbacks return: FT_CONTINUE, FT_STOP, or anything else to cancel.
struct request_callbacks {
  std::function<int(int32_t token)> on_token;
  std::function<int(std::span<const int32_t> tokens, std::span<float> logits)> on_logits;
};

class request {
 public:
  request(std::shared_ptr<session> owner, std::span<const int32_t> prompt, decode::options settings,
          request_callbacks callbacks);

  // Any thread.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  ft_finish_reason finish_reason() const { return finish_.load(std::memory_order_acquire); }
  bool finished() const { return finish_reason() != FT_FINISH_NONE; }
  bool keeps_logprobs() const { return settings_.logprobs; }
  // Copies new tokens (and log-probabilities, when they are kept) and says how many there are.
  size_t copy_new(int32_t* tokens, float* logprobs, size_t capacity) const;
  // After it has finished: why, for reasons _CANCELLED and _ERROR.
  ft_status status() const { return status_; }
  const std::string& message() const { return message_; }
  const std::shared_ptr<session>& owner() const { return owner_; }
  // For a request that was prepared and never submitted: lets go of what its callbacks hold.
  void abandon() { callbacks_ = {}; }

 private:
  friend class session;

  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t num_new() const { return num_tokens() - prompt_length_; }

  const std::shared_ptr<session> owner_;
  const decode::options settings_;
  request_callbacks callbacks_;
  const int64_t prompt_length_;

  std::atomic<bool> cancelled_{false};
  std::atomic<ft_finish_reason> finish_{FT_FINISH_NONE};

  mutable std::mutex mutex_;     // guards the two below against readers; only the driving thread writes
  std::vector<int32_t> tokens_;  // prompt and new ones; reserved to its final length
  std::vector<float> logprobs_;  // of the new ones

  // The driving thread's only.
  int64_t computed_ = 0;   // tokens whose keys and values are in the cache
  int64_t scheduled_ = 0;  // tokens that the step under way computes
  int64_t reserved_pages_ = 0;
  std::vector<int32_t> pages_;  // reserved to its final length
  int64_t last_length_ = 0;     // tokens after which it ends: prompt and max_new_tokens, within max_positions
  ft_status status_ = FT_OK;    // written before finish_
  std::string message_;
};

}  // namespace ft::runtime
