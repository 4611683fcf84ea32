// A rank that computes in a thread of its own, beside the thread that computes rank 0. The thread sleeps while there is
// nothing for it to do.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <thread>

#include "core/wait_point.h"
#include "runtime/ranks/rank.h"

namespace ft::runtime {

class thread_rank final : public rank {
 public:
  // Begins to load the rank's worker in its thread; finish() returns when it is there, or throws what went wrong.
  explicit thread_rank(std::function<std::unique_ptr<worker>()> load);
  ~thread_rank() override;

  rank_info info() const override { return worker_->info(); }
  int64_t page_bytes() const override { return worker_->page_bytes(); }
  int64_t free_memory() const override { return static_cast<int64_t>(worker_->device().free_memory()); }
  void open(uint64_t session, const session_memory& needs) override;
  void close(uint64_t session) noexcept override;
  void prepare(const step_plan& plan) override;
  void prepare(const forward_plan& plan, forward_caller* caller) override;
  void launch(const step_plan& plan, const cancellation& cancel) override;
  void launch(const forward_plan& plan, forward_caller* caller) override;
  void finish() override;
  void recover() override { worker_->compute().others().recover(); }
  void forget_recordings() override;

 private:
  // Gives the thread its next work. finish() must have returned since the last.
  void begin(std::function<void()> work);
  void serve();

  std::unique_ptr<worker> worker_;
  std::function<void()> work_;
  std::exception_ptr failure_;
  bool ends_ = false;
  std::atomic<uint64_t> begun_{0}, ended_{0};  // pieces of work
  wait_point changed_;
  std::thread thread_;
};

}  // namespace ft::runtime
