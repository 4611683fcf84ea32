// Drives a scheduler as a session does, over the fake worker, whose allocations do not count (allocations.h).
#pragma once

#include <array>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "runtime/scheduler/scheduler.h"
#include "scheduler/allocations.h"
#include "scheduler/fake_model.h"
#include "scheduler/fake_worker.h"
#include "scheduler/reference.h"

namespace ft::test {

inline runtime::model_limits decoder_limits(int64_t max_positions = 160) {
  return {.name = "FakeForCausalLM",
          .vocab_size = fake_model::vocab,
          .max_positions = max_positions,
          .embedding_size = fake_model::embedding_size};
}

inline runtime::model_limits encoder_decoder_limits(int64_t max_positions = 160) {
  runtime::model_limits limits = decoder_limits(max_positions);
  limits.name = "FakeForConditionalGeneration";
  limits.is_encoder_decoder = true;
  limits.encoder_vocab_size = fake_model::encoder_vocab;
  limits.decoder_start_token_id = 2;
  return limits;
}

struct driver_options {
  runtime::model_limits limits = decoder_limits();
  int64_t max_batch_size = 8;
  int64_t max_tokens_per_step = 32;
  int64_t num_pages = 100;
  int64_t page_tokens = 4;
  int64_t most_idle_pages = 100;
  bool prefix_cache = true;
  bool goes_ahead = false;
};

class driver {
 public:
  explicit driver(const driver_options& o)
      : options(o),
        scheduler(o.limits, {.max_batch_size = o.max_batch_size,
                             .max_tokens_per_step = o.max_tokens_per_step,
                             .num_pages = o.num_pages,
                             .page_tokens = o.page_tokens,
                             .most_idle_pages = o.most_idle_pages,
                             .prefix_cache = o.prefix_cache,
                             .log_softmax = fake_model::log_softmax}),
        worker({.num_pages = o.num_pages,
                .page_tokens = o.page_tokens,
                .max_rows = o.max_batch_size,
                .max_positions = o.limits.max_positions,
                .vocab_size = fake_model::vocab,
                .encoder_vocab_size = o.limits.encoder_vocab_size,
                .embedding_size = fake_model::embedding_size,
                .prefix_token_size = 2}),
        steps_{scheduler.make_step(0), scheduler.make_step(1)} {}

  std::shared_ptr<runtime::scheduled_request> submit(const drawn_request& r) {
    auto made = scheduler.prepare(r.prompt, r.settings, r.callbacks(), r.soft);
    scheduler.submit(made);
    return made;
  }

  // One step; what is unfinished then. `later`: plans are executed when their results are asked for.
  size_t step(bool later = false) {
    scheduler.retire_cancelled();
    remove_finished();
    runtime::scheduled_step* now = std::exchange(ahead_, nullptr);
    if (!now) {
      now = &steps_[0];
      scheduler.compose(*now);
      if (!now->empty()) launch(*now, later);
    }
    if (!now->empty()) {
      if (options.goes_ahead && scheduler.can_go_ahead()) {
        runtime::scheduled_step& next = now == &steps_[0] ? steps_[1] : steps_[0];
        scheduler.compose_after(*now, next);
        if (!next.empty()) {
          launch(next, later);
          ahead_ = &next;
          ++went_ahead;
        }
      }
      scheduler.settle(*now, results(now->plan().slot));
    }
    now->clear();
    remove_finished();
    return scheduler.unfinished();
  }

  // As a session does where a step has failed.
  void fail_steps(ft_status status) {
    for (runtime::scheduled_step& s : steps_) scheduler.fail(s, status, "the step failed");
    ahead_ = nullptr;
    for (runtime::scheduled_step& s : steps_) s.clear();
    scheduler.remove_finished(nullptr);
  }

  void finish_all(int64_t most_steps) {
    for (int64_t i = 0; step() > 0; ++i) CHECK_MSG(i < most_steps, scheduler.unfinished(), " requests do not end");
  }

  const driver_options options;
  runtime::scheduler scheduler;
  fake_worker worker;
  int64_t went_ahead = 0;
  std::function<void(const runtime::scheduled_step&)> on_launch;

 private:
  void launch(runtime::scheduled_step& step, bool later) {
    {
      const uncounted worked;
      if (on_launch) on_launch(step);
      worker.launch(step.plan(), later);
    }
    scheduler.launched(step);
  }
  runtime::step_results results(int32_t slot) {
    const uncounted worked;
    return worker.results(slot);
  }
  void remove_finished() {
    const auto is_finished = [](const runtime::scheduled_request& r) { return r.finished(); };
    if (ahead_ && ahead_->all_requests(is_finished)) std::exchange(ahead_, nullptr)->clear();
    scheduler.remove_finished(ahead_);
  }

  std::array<runtime::scheduled_step, 2> steps_;
  runtime::scheduled_step* ahead_ = nullptr;
};

}  // namespace ft::test
