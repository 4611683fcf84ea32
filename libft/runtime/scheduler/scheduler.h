// Decides what a model computes next: queues and admits requests, deals out pages by number, composes each step's plan
// and settles what the step has chosen. It knows numbers only: no device, no tensor, no weights. Its caller (session.h)
// has plans executed and brings the results.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/plan/step_results.h"
#include "runtime/scheduler/model_limits.h"
#include "runtime/scheduler/page_allocator.h"
#include "runtime/scheduler/sampling_composer.h"
#include "runtime/scheduler/scheduled_request.h"
#include "runtime/scheduler/scheduled_step.h"
#include "runtime/scheduler/token_selection.h"
#include "runtime/scheduler/waiting_queue.h"

namespace ft::runtime {

struct scheduler_options {
  int64_t max_batch_size = 128;        // sequences in a step
  int64_t max_tokens_per_step = 1024;  // but one token a sequence at least
  int64_t num_pages = 0;
  int64_t page_tokens = 16;
  int64_t most_idle_pages = 0;  // kept for requests that begin alike, while nobody holds them
  bool prefix_cache = true;
  std::function<void(std::span<float>)> log_softmax;  // token_selection.h
};

struct scheduler_stats {
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  int64_t pages_in_use = 0;
  int64_t pages_kept = 0;
  uint64_t pages_copied = 0;
  uint64_t prompt_tokens_reused = 0;
};

class scheduler {
 public:
  scheduler(const model_limits& limits, const scheduler_options& options);

  // Any thread.
  // Checks everything and makes the request; submit() puts it in the queue, after which callbacks may come. Throws
  // ft::error (FT_ERROR_INVALID_ARGUMENT, FT_ERROR_UNSUPPORTED, FT_ERROR_OUT_OF_MEMORY).
  std::shared_ptr<scheduled_request> prepare(std::span<const int32_t> prompt, decode::options settings,
                                             request_callbacks callbacks, soft_prompt soft = {}) const;
  void submit(std::shared_ptr<scheduled_request> r);
  void cancel_all();
  size_t unfinished() const;
  scheduler_stats stats() const;

  // The driving thread's, one at a time.
  // Two of these may be under way at a time.
  scheduled_step make_step(int32_t slot) const;
  // Ends the requests that were cancelled, running or waiting.
  void retire_cancelled();
  // All that there is to do now, of those who wait too; empty where there is nothing.
  void compose(scheduled_step& step);
  // The plan is on its way: its tokens count as computed.
  void launched(scheduled_step& step);
  // Whether all that follows the step under way is known but for its tokens: nobody can join, and every sequence's
  // token is chosen on the device. Then compose_after() puts together the step that follows `now`, as though no
  // sequence ended with the token that `now` gives it. What it computes for one that does is lost.
  bool can_go_ahead();
  void compose_after(const scheduled_step& now, scheduled_step& next);
  // Chooses and publishes tokens; callbacks come. Ends the requests that have all they wanted.
  void settle(scheduled_step& now, const step_results& results);
  // Ends all requests of a step.
  void fail(scheduled_step& step, ft_status status, const char* message) noexcept;
  // Lets go of finished requests, but for those that `under_way` (may be null) still computes; the last reference to
  // one may go here.
  void remove_finished(scheduled_step* under_way) noexcept;

 private:
  using request_ptr = std::shared_ptr<scheduled_request>;

  void add_rows(scheduled_step& step, scheduled_request& r, bool decoding, int64_t& room);
  void add_source(scheduled_step& step, scheduled_request& r, int64_t& room);
  void compose_rows(scheduled_step& step);
  void admit();
  bool fits(const scheduled_request& r) const;
  bool has_room(const scheduled_request& r) const;
  void reuse_prefix(scheduled_request& r);
  void pin_prompt(scheduled_request& r) noexcept;
  void settle_request(scheduled_request& r, const step_results& results);
  void finish(scheduled_request& r, ft_finish_reason reason, ft_status status = FT_OK,
              const char* message = "") noexcept;
  void finish_cancelled(scheduled_request& r) noexcept;

  const model_limits limits_;
  const scheduler_options options_;
  const int64_t max_pages_per_row_;
  const std::shared_ptr<std::atomic<bool>> cancellations_;  // some request was cancelled since this was looked at

  mutable std::mutex mutex_;  // guards waiting_, running_ (its membership), published_
  waiting_queue<scheduled_request> waiting_;
  std::vector<request_ptr> running_;
  scheduler_stats published_;

  // The driving thread's only.
  page_allocator pages_;
  sampling_composer sampling_;
  token_selection selection_;
  int64_t reserved_pages_ = 0;  // that the running requests can come to hold beside the pinned ones
  int64_t running_rows_ = 0;    // sequences that the running requests may have
  bool room_changed_ = false;   // rows or pages came free, or fewer are needed, since the queue was told
  scheduler_stats stats_;
};

}  // namespace ft::runtime
