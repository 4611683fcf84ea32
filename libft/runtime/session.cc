#include "runtime/session.h"

#include <algorithm>
#include <new>
#include <utility>

#include "core/status.h"
#include "ops/log_softmax.h"

namespace ft::runtime {
namespace {

constexpr int64_t page_tokens = 16;

model_limits limits_of(const arch::model_config& config) {
  return {.name = config.architecture,
          .vocab_size = config.tokens.vocab_size,
          .max_positions = config.positions.max,
          .embedding_size = config.output_size(),
          .is_encoder_decoder = config.is_encoder_decoder,
          .encoder_vocab_size = config.tokens.encoder_vocab_size,
          .decoder_start_token_id = config.tokens.decoder_start_id};
}

// By the operation that gives the log-probabilities of prompts on the CPU.
std::function<void(std::span<float>)> host_log_softmax() {
  return [scratch = std::make_shared<arena>(host_memory())](std::span<float> row) {
    scratch->reset();
    exec here{cpu_backend(), cpu_backend().ops(), *scratch};
    const tensor x(row.data(), dtype::f32, {1, static_cast<int64_t>(row.size())});
    ops::log_softmax(here, {.out = x, .x = x});
  };
}

// Opens the session with `num_pages`, or, when the bound was the library's own choice and memory is shorter than it
// seemed, with fewer, which are left in it.
uint64_t open_on(rank_group& ranks, session_memory& needs, int64_t fewest) {
  for (;; needs.num_pages = std::max(fewest, needs.num_pages / 2)) {
    try {
      return ranks.open(needs);
    } catch (const std::bad_alloc&) {
      if (needs.num_pages <= fewest) throw;
    } catch (const error& e) {
      if (e.code() != FT_ERROR_OUT_OF_MEMORY || needs.num_pages <= fewest) throw;
    }
  }
}

int64_t pages_wanted(const arch::model_config& config, const rank_group& ranks, const session_options& options) {
  const int64_t texts = config.is_encoder_decoder ? 2 : 1;  // a row's own, and its source
  const int64_t most = texts * pages_for(config.positions.max, page_tokens) * options.max_batch_size;
  const int64_t page_bytes = ranks.page_bytes();
  if (options.kv_cache_bytes > 0) {
    if (options.kv_cache_bytes < page_bytes)
      fail(FT_ERROR_OUT_OF_MEMORY, "a key-value page takes ", page_bytes, " bytes; kv_cache_bytes allows ",
           options.kv_cache_bytes);
    return std::min(most, options.kv_cache_bytes / page_bytes);
  }
  const int64_t affordable = ranks.affordable_pages(0.5);
  if (affordable < 1)
    fail(FT_ERROR_OUT_OF_MEMORY, "a key-value page takes ", page_bytes,
         " bytes, and half of the memory that is free holds none: free some, or set kv_cache_bytes");
  return std::min(most, affordable);
}

}  // namespace

std::shared_ptr<session> session::create(std::shared_ptr<model> m, const session_options& options) {
  if (m->config().head.kind != arch::head_kind::causal_lm)
    fail(FT_ERROR_UNSUPPORTED, "a ", m->config().architecture, " is no causal language model and cannot generate");
  if (options.max_batch_size < 1 || options.max_tokens_per_step < 0 || options.kv_cache_bytes < 0 ||
      options.prefix_cache_bytes < 0)
    fail(FT_ERROR_INVALID_ARGUMENT,
         "max_batch_size, max_tokens_per_step, kv_cache_bytes and prefix_cache_bytes may not be negative");
  return std::shared_ptr<session>(new session(std::move(m), options));
}

session::session(std::shared_ptr<model> m, const session_options& options)
    : model_(std::move(m)), goes_ahead_(options.goes_ahead.value_or(model_->compute().stream() != nullptr)) {
  rank_group& ranks = model_->ranks();
  const bool bounded = options.kv_cache_bytes > 0;
  session_memory needs{pages_wanted(model_->config(), ranks, options), options.max_batch_size};
  opened_ = open_on(ranks, needs, bounded ? needs.num_pages : 1);
  try {
    make_scheduler(options, needs.num_pages);
  } catch (...) {
    close_ranks();
    throw;
  }
}

void session::make_scheduler(const session_options& options, int64_t num_pages) {
  const int64_t page_bytes = model_->ranks().page_bytes();
  const int64_t kept_bytes = options.prefix_cache_bytes > 0 ? options.prefix_cache_bytes
                             : options.kv_cache_bytes > 0   ? options.kv_cache_bytes
                                                            : default_prefix_cache_bytes;
  scheduler_ = std::make_unique<scheduler>(
      limits_of(model_->config()),
      scheduler_options{.max_batch_size = options.max_batch_size,
                        .max_tokens_per_step = options.max_tokens_per_step > 0
                                                   ? options.max_tokens_per_step
                                                   : model_->compute().device().tokens_per_pass(),
                        .num_pages = num_pages,
                        .page_tokens = page_tokens,
                        .most_idle_pages = kept_bytes / page_bytes,
                        .prefix_cache = options.prefix_cache,
                        .log_softmax = host_log_softmax()});
  for (int32_t slot = 0; slot < 2; ++slot) {
    steps_.push_back(scheduler_->make_step(slot));
    steps_.back().plan().session = *opened_;
  }
  stats_.pages_total = num_pages;
  stats_.page_tokens = page_tokens;
  stats_.page_bytes = static_cast<uint64_t>(page_bytes);
}

void session::submit(std::shared_ptr<scheduled_request> r) {
  std::lock_guard lock(mutex_);
  if (closed_) fail(FT_ERROR_INVALID_ARGUMENT, "the session was destroyed");
  scheduler_->submit(std::move(r));
}

size_t session::step() {
  std::unique_lock lock(mutex_);
  if (!driver_ && scheduler_->unfinished() > 0) {
    driver_ = std::this_thread::get_id();
    lock.unlock();
    drive_one_step();
    lock.lock();
    driver_.reset();
    changed_.notify_all();
  }
  return scheduler_->unfinished();
}

void session::wait(const request& r) {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (driver_ == std::this_thread::get_id())
        fail(FT_ERROR_INVALID_ARGUMENT, "a callback may not wait for a request of its own session");
      changed_.wait(lock, [&] { return r.finished() || !driver_; });
      if (r.finished()) return;
    }
    step();
  }
}

void session::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    scheduler_->cancel_all();
    if (driver_ == std::this_thread::get_id()) return;  // from a callback: whoever waits for a request ends them
  }
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !driver_; });
      if (scheduler_->unfinished() == 0) {
        ahead_ = nullptr;
        close_ranks();
        for (scheduled_step& s : steps_) s.clear();
        return;
      }
    }
    step();
  }
}

void session::close_ranks() noexcept {
  if (opened_) model_->ranks().close(*std::exchange(opened_, {}));
}

session_stats session::stats() const {
  std::lock_guard lock(mutex_);
  session_stats now = stats_;
  static_cast<scheduler_stats&>(now) = scheduler_->stats();
  return now;
}

void session::drive_one_step() noexcept {
  const uint64_t allocations_before = allocation_count();
  const uint64_t replayed_before = model_->first().steps_replayed();
  uint64_t steps = 0, ahead = 0;
  try {
    scheduler_->retire_cancelled();
    remove_finished();
    ahead = ahead_ != nullptr;
    scheduled_step& now = next_step();
    if (!now.empty()) {
      steps = 1;
      if (goes_ahead_ && scheduler_->can_go_ahead()) go_ahead_of(now);
      scheduler_->settle(now, model_->ranks().results(now.plan()));
    }
    now.clear();
  } catch (const error& e) {
    fail_steps(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    fail_steps(FT_ERROR_OUT_OF_MEMORY, "out of memory while computing a step");
  } catch (const std::exception& e) {
    fail_steps(FT_ERROR_INTERNAL, e.what());
  }
  remove_finished();
  std::lock_guard lock(mutex_);
  stats_.allocations += allocation_count() - allocations_before;
  stats_.steps += steps;
  stats_.steps_ahead += ahead;
  stats_.steps_replayed += model_->first().steps_replayed() - replayed_before;
}

void session::remove_finished() noexcept {
  if (ahead_ && ahead_->all_requests([](const request& r) { return r.finished(); }))
    std::exchange(ahead_, nullptr)->clear();  // nobody will ask for its results
  scheduler_->remove_finished(ahead_);
}

// The step that was queued ahead, or else one of all that there is to do now.
scheduled_step& session::next_step() {
  if (scheduled_step* ahead = std::exchange(ahead_, nullptr)) return *ahead;
  scheduled_step& now = steps_[0];
  scheduler_->compose(now);
  if (!now.empty()) launch(now);
  return now;
}

void session::go_ahead_of(const scheduled_step& now) {
  scheduled_step& next = &now == &steps_[0] ? steps_[1] : steps_[0];
  scheduler_->compose_after(now, next);
  if (next.empty()) return;
  launch(next);
  ahead_ = &next;
}

void session::launch(scheduled_step& step) {
  const auto all_cancelled = [](void* of) {
    return static_cast<scheduled_step*>(of)->all_requests([](const request& r) { return r.cancelled(); });
  };
  model_->ranks().run(step.plan(), {all_cancelled, &step});
  scheduler_->launched(step);
}

// A step queued ahead has the requests of the one before it, or some of them.
void session::fail_steps(ft_status status, const char* message) noexcept {
  for (scheduled_step& s : steps_) scheduler_->fail(s, status, message);
  ahead_ = nullptr;
  model_->ranks().come_to_rest(*opened_);
  for (scheduled_step& s : steps_) s.clear();
}

}  // namespace ft::runtime
