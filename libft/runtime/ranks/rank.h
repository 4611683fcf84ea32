// One rank of a model as whoever hands out plans sees it: a worker in this thread, or what stands for one elsewhere.
#pragma once

#include <cstdint>

#include "runtime/plan/forward_plan.h"
#include "runtime/plan/step_plan.h"
#include "runtime/worker/worker.h"

namespace ft::runtime {

class rank {
 public:
  virtual ~rank() = default;

  // Bytes of one page over the rank's layers, and bytes that its device could still give.
  virtual int64_t page_bytes() const = 0;
  virtual int64_t free_memory() const = 0;

  virtual rank_info info() const = 0;

  // As worker.h has them. open() throws what is wrong on the rank.
  virtual void open(uint64_t session, const session_memory& needs) = 0;
  virtual void close(uint64_t session) noexcept = 0;

  // Begins to prepare a plan, in which no peer takes part, or to launch what was prepared, and may return before it is
  // done; finish() returns when it is, or throws what went wrong. All throw what went wrong at once.
  virtual void prepare(const step_plan& plan) = 0;
  virtual void prepare(const forward_plan& plan, forward_caller* caller) = 0;

  virtual void launch(const step_plan& plan, const cancellation& cancel) = 0;
  virtual void launch(const forward_plan& plan, forward_caller* caller) = 0;
  virtual void finish() = 0;
  // After a launch that failed on some rank, when all have finished: the ranks can be used again.
  virtual void recover() = 0;
  // What the device has recorded is recorded anew: it holds the algorithms of its time.
  virtual void forget_recordings() = 0;
};

// A worker that computes in the thread that calls.
class local_rank final : public rank {
 public:
  explicit local_rank(worker& of) : worker_(of) {}
  int64_t page_bytes() const override { return worker_.page_bytes(); }
  int64_t free_memory() const override { return static_cast<int64_t>(worker_.device().free_memory()); }
  void open(uint64_t session, const session_memory& needs) override { worker_.open(session, needs); }
  void close(uint64_t session) noexcept override { worker_.close(session); }
  void prepare(const step_plan& plan) override { worker_.prepare(plan); }
  void prepare(const forward_plan& plan, forward_caller* caller) override { worker_.prepare(plan, caller); }
  void launch(const step_plan& plan, const cancellation& cancel) override { worker_.launch(plan, cancel); }
  void launch(const forward_plan& plan, forward_caller* caller) override { worker_.launch(plan, caller); }
  void finish() override {}
  rank_info info() const override { return worker_.info(); }
  void recover() override { worker_.compute().others().recover(); }
  void forget_recordings() override { worker_.forget_recordings(); }

 private:
  worker& worker_;
};

}  // namespace ft::runtime
