#include "runtime/ranks/thread_rank.h"

#include <utility>

#include "core/thread_start.h"

namespace ft::runtime {

thread_rank::thread_rank(std::function<std::unique_ptr<worker>()> load) {
  begin([this, load = std::move(load)] { worker_ = load(); });
  thread_ = std::thread([this] { serve(); });
}

thread_rank::~thread_rank() {
  changed_.await([&] { return ended_.load() == begun_.load(); });
  begin([this] { ends_ = true; });
  thread_.join();
}

void thread_rank::begin(std::function<void()> work) {
  work_ = std::move(work);
  begun_.fetch_add(1);
  changed_.notify();
}

void thread_rank::finish() {
  changed_.await([&] { return ended_.load() == begun_.load(); });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void thread_rank::serve() {
  begin_thread();
  while (!ends_) {
    changed_.await([&] { return ended_.load() != begun_.load(); });
    try {
      work_();
    } catch (...) {
      failure_ = std::current_exception();
    }
    ended_.fetch_add(1);
    changed_.notify();
  }
}

void thread_rank::open(uint64_t session, const session_memory& needs) {
  begin([=, this] { worker_->open(session, needs); });
  finish();
}

void thread_rank::close(uint64_t session) noexcept {
  begin([=, this] { worker_->close(session); });
  finish();
}

void thread_rank::prepare(const step_plan& plan) {
  begin([this, &plan] { worker_->prepare(plan); });
}

void thread_rank::prepare(const forward_plan& plan, forward_caller*) {
  begin([this, &plan] { worker_->prepare(plan, nullptr); });
}

void thread_rank::launch(const step_plan& plan, const cancellation&) {
  begin([this, &plan] { worker_->launch(plan); });
}

void thread_rank::launch(const forward_plan& plan, forward_caller*) {
  begin([this, &plan] { worker_->launch(plan, nullptr); });
}

void thread_rank::forget_recordings() {
  begin([this] { worker_->forget_recordings(); });
  finish();
}

}  // namespace ft::runtime
