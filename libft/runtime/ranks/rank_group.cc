#include "runtime/ranks/rank_group.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <map>
#include <string>
#include <utility>

namespace ft::runtime {

rank_group::rank_group(worker& first, std::vector<std::unique_ptr<rank>> others) : first_(first) {
  ranks_.push_back(std::make_unique<local_rank>(first));
  for (auto& other : others) ranks_.push_back(std::move(other));
}

uint64_t rank_group::open(const session_memory& needs) {
  std::lock_guard lock(mutex_);
  const uint64_t session = ++sessions_;
  size_t opened = 0;
  try {
    for (; opened < ranks_.size(); ++opened) ranks_[opened]->open(session, needs);
  } catch (...) {
    while (opened > 0) ranks_[--opened]->close(session);
    throw;
  }
  return session;
}

void rank_group::close(uint64_t session) noexcept {
  std::lock_guard lock(mutex_);
  for (auto& r : ranks_) r->close(session);
}

std::vector<rank_info> rank_group::infos() const {
  std::vector<rank_info> all;
  for (const auto& r : ranks_) all.push_back(r->info());
  return all;
}

int64_t rank_group::page_bytes() const {
  int64_t bytes = 0;
  for (const auto& r : ranks_) bytes += r->page_bytes();
  return bytes;
}

int64_t rank_group::affordable_pages(double share) const {
  struct memory_use {
    double free = 0;
    int64_t page_bytes = 0;  // of all ranks there
  };
  std::map<std::string, memory_use> devices;
  for (const auto& r : ranks_) {
    memory_use& device = devices[r->info().device];
    device.free = static_cast<double>(r->free_memory());
    device.page_bytes += r->page_bytes();
  }
  int64_t pages = std::numeric_limits<int64_t>::max();
  for (const auto& [name, device] : devices)
    pages = std::min(pages, static_cast<int64_t>(share * device.free) / std::max<int64_t>(1, device.page_bytes));
  return pages;
}

void rank_group::run(const step_plan& plan, const cancellation& cancel) {
  run_on_all([&](rank& r, bool) { r.prepare(plan); },
             [&](rank& r, bool first) { r.launch(plan, first ? cancel : cancellation{}); });
}

void rank_group::run(const forward_plan& plan, forward_caller& caller) {
  run_on_all([&](rank& r, bool first) { r.prepare(plan, first ? &caller : nullptr); },
             [&](rank& r, bool first) { r.launch(plan, first ? &caller : nullptr); });
}

void rank_group::forget_recordings() {
  std::lock_guard lock(mutex_);
  for (auto& r : ranks_) r->forget_recordings();
}

template <class Prepare, class Launch>
void rank_group::run_on_all(Prepare&& prepare, Launch&& launch) {
  std::lock_guard lock(mutex_);
  if (std::exception_ptr failure = on_all(prepare)) std::rethrow_exception(failure);  // and nothing has been launched
  if (std::exception_ptr failure = on_all(launch)) {
    for (auto& r : ranks_) r->recover();
    std::rethrow_exception(failure);
  }
}

// begin(rank, whether it is the first) on all ranks at once; returns the first error when all have finished.
template <class Begin>
std::exception_ptr rank_group::on_all(Begin&& begin) {
  std::exception_ptr failure;
  const auto attempt = [&](auto&& step) {
    try {
      step();
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  };
  for (size_t i = ranks_.size(); i-- > 0;)  // rank 0, which computes in this thread, comes last
    attempt([&] { begin(*ranks_[i], i == 0); });
  for (auto& r : ranks_) attempt([&] { r->finish(); });
  return failure;
}

}  // namespace ft::runtime
