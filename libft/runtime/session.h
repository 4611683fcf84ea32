// A running batch over one model: whoever waits, drives; the scheduler decides what a step computes, the model's ranks
// compute it. README.md beside this file is the contract on threads and ownership.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "runtime/model.h"
#include "runtime/scheduler/scheduler.h"

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

struct session_stats : scheduler_stats {
  uint64_t steps = 0;
  uint64_t steps_ahead = 0;     // of these, those that were queued while the one before ran
  uint64_t steps_replayed = 0;  // of these, those that the device had recorded
  uint64_t allocations = 0;
  int64_t pages_total = 0;
  int64_t page_tokens = 0;
  uint64_t page_bytes = 0;
};

class session {
 public:
  static std::shared_ptr<session> create(std::shared_ptr<model> m, const session_options& options);
  ~session() { close_ranks(); }
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  // As scheduler.h has it.
  std::shared_ptr<scheduled_request> prepare(std::span<const int32_t> prompt, decode::options settings,
                                             request_callbacks callbacks, soft_prompt soft = {}) const {
    return scheduler_->prepare(prompt, std::move(settings), std::move(callbacks), std::move(soft));
  }
  void submit(std::shared_ptr<scheduled_request> r);
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

  // A step, by the driving thread without the lock; never throws.
  void drive_one_step() noexcept;
  scheduled_step& next_step();
  void go_ahead_of(const scheduled_step& now);
  void launch(scheduled_step& step);
  void remove_finished() noexcept;
  void fail_steps(ft_status status, const char* message) noexcept;
  void make_scheduler(const session_options& options, int64_t num_pages);
  void close_ranks() noexcept;

  const std::shared_ptr<model> model_;
  const bool goes_ahead_;
  std::optional<uint64_t> opened_;  // the session's number on the ranks, while it is open there
  std::unique_ptr<scheduler> scheduler_;

  mutable std::mutex mutex_;  // guards driver_, closed_, stats_
  std::condition_variable changed_;
  std::optional<std::thread::id> driver_;
  bool closed_ = false;
  session_stats stats_;

  // The driving thread's only.
  std::vector<scheduled_step> steps_;  // two
  scheduled_step* ahead_ = nullptr;    // of the two, the one that is queued already; null: none
};

}  // namespace ft::runtime
