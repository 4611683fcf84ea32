// A running batch over one model: admits requests, composes each step, runs it, and chooses the next tokens.
// README.md beside this file is the contract on threads and ownership.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "runtime/model.h"
#include "runtime/page_pool.h"
#include "runtime/queued_step.h"
#include "runtime/request.h"
#include "runtime/token_chooser.h"

namespace ft::runtime {

constexpr int64_t default_prefix_cache_bytes = int64_t{1} << 30;

struct session_options {
  int64_t max_batch_size = 128;
  int64_t max_tokens_per_step = 0;  // 0: backend::tokens_per_pass()
  int64_t kv_cache_bytes = 0;       // 0: half of the free memory, or what the largest batch can fill if that is less
  bool prefix_cache = true;         // keep the pages of finished requests for those that begin alike,
  int64_t prefix_cache_bytes = 0;   // as many; 0: kv_cache_bytes where it is given, else default_prefix_cache_bytes
  std::optional<bool> goes_ahead;   // queue a step while the last one runs; default: where the device runs by itself
};

struct session_stats {
  uint64_t steps = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t allocations = 0;
  int64_t pages_in_use = 0;
  int64_t pages_total = 0;
  int64_t page_tokens = 0;
  uint64_t page_bytes = 0;
  uint64_t pages_copied = 0;
  uint64_t prompt_tokens_reused = 0;
  int64_t pages_kept = 0;
};

class session : public std::enable_shared_from_this<session> {
 public:
  static std::shared_ptr<session> create(std::shared_ptr<model> m, const session_options& options);

  // Checks everything and makes the request; submit() puts it in the queue, after which callbacks may come.
  std::shared_ptr<request> prepare(std::span<const int32_t> prompt, decode::options settings,
                                   request_callbacks callbacks, soft_prompt soft = {});
  void submit(std::shared_ptr<request> r);
  // Runs one step unless another thread is running one; returns how many requests are unfinished.
  size_t step();
  // Returns when the request has finished, driving the steps while no other thread does.
  void wait(const request& r);
  // Cancels everything, waits until it has ended, and frees the pages; submit() fails from then on. From a callback of
  // the session's own it cancels and returns at once.
  void close();
  session_stats stats() const;
  const model& owner() const { return *model_; }

 private:
  session(std::shared_ptr<model> m, const session_options& options);

  using request_ptr = std::shared_ptr<request>;

  void add_source(queued_step& next, request& r, int64_t& room);
  void add_rows(queued_step& next, request& r, bool decoding, int64_t& room);
  bool can_admit(const request& r) const;
  bool has_room(const request& r) const;
  void reuse_prefix(request& r);
  void pin_prompt(request& r) noexcept;
  size_t unfinished() const { return waiting_.size() + running_.size(); }

  // A step, by the driving thread without the lock; never throws.
  void drive_one_step() noexcept;
  void admit();
  void retire_cancelled();
  queued_step& next_step();
  bool can_go_ahead();
  void go_ahead_of(queued_step& now);
  void compose(queued_step& next);
  void launch(queued_step& next);
  void choose_tokens(queued_step& now);
  void finish(request& r, ft_finish_reason reason, ft_status status = FT_OK, const char* message = "") noexcept;
  void fail_steps(ft_status status, const char* message) noexcept;
  void remove_finished() noexcept;

  const std::shared_ptr<model> model_;
  const session_options options_;
  kv_layout layout_;

  mutable std::mutex mutex_;  // guards waiting_, running_ (its membership), driver_, closed_, stats_
  std::condition_variable changed_;
  std::deque<request_ptr> waiting_;
  std::vector<request_ptr> running_;
  std::optional<std::thread::id> driver_;
  bool closed_ = false;
  session_stats stats_;

  // The driving thread's only.
  std::unique_ptr<page_pool> pages_;
  int64_t reserved_pages_ = 0;  // that the running requests can come to hold beside the pinned ones
  uint64_t reused_tokens_ = 0;  // of prompts, in the step under way
  int64_t max_pages_per_row_ = 0;
  int64_t running_rows_ = 0;  // sequences that the running requests may have
  const bool goes_ahead_;
  buffer chosen_memory_;
  tensor chosen_;  // view of it: what the last step queued chooses on the device (step_logits.h)
  recorded_steps recorded_steps_;
  std::array<queued_step, 2> steps_;
  queued_step* ahead_ = nullptr;  // of the two, the one that is queued already; null: none
  token_chooser chooser_;
};

}  // namespace ft::runtime
