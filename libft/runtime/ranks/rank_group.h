// The ranks of a model: hands every plan to all of them in the same order, prepared everywhere before it is launched
// anywhere, so that no rank waits for one that cannot come. A model on one device is a group of one.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/plan/step_results.h"
#include "runtime/ranks/rank.h"

namespace ft::runtime {

class rank_group {
 public:
  // `first` is rank 0, which brings the results; `others` the ranks from 1 on.
  explicit rank_group(worker& first, std::vector<std::unique_ptr<rank>> others = {});

  size_t size() const { return ranks_.size(); }

  std::vector<rank_info> infos() const;

  // Opens a session on all ranks, or on none. Returns its number.
  uint64_t open(const session_memory& needs);
  void close(uint64_t session) noexcept;
  // Bytes of one page over all ranks, and pages that the ranks' free memory could hold when `share` of it is taken.
  int64_t page_bytes() const;
  int64_t affordable_pages(double share) const;

  // Prepares the plan on all ranks, then launches it on all; `cancel` is asked on rank 0. Throws the first error of a
  // rank, when all have left the pass.
  void run(const step_plan& plan, const cancellation& cancel);
  // The same of a pass over whole sequences, whose outputs `caller` takes meanwhile.
  void run(const forward_plan& plan, forward_caller& caller);
  void forget_recordings();
  // Rank 0's; waits for them.
  step_results results(const step_plan& plan) { return first_.results(plan.session, plan.slot); }
  // Waits for whatever is under way of a session, whatever comes of it.
  void come_to_rest(uint64_t session) noexcept { first_.come_to_rest(session); }

 private:
  template <class Prepare, class Launch>
  void run_on_all(Prepare&& prepare, Launch&& launch);
  template <class Begin>
  std::exception_ptr on_all(Begin&& begin);

  worker& first_;
  std::vector<std::unique_ptr<rank>> ranks_;
  std::mutex mutex_;  // one plan at a time
  uint64_t sessions_ = 0;
};

}  // namespace ft::runtime
