// Requests that wait to be admitted, first come first served but for this: one that fits may pass those before it that
// do not, until one of these has been passed `patience` times; from then on nobody passes that one. So a large request
// neither stops everyone behind it nor starves. Only the first `window` are looked at, and only when something has
// changed: however many wait, a step that changes nothing costs nothing.
//
// Not thread-safe: its owner locks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>

namespace ft::runtime {

template <class Request>
class waiting_queue {
 public:
  static constexpr size_t window = 64;
  static constexpr int32_t patience = 64;

  void push(std::shared_ptr<Request> r) {
    if (waiting_.size() < window) changed_ = true;  // else nobody looks at it yet
    waiting_.push_back({std::move(r), 0});
  }
  size_t size() const { return waiting_.size(); }
  bool empty() const { return waiting_.empty(); }
  // Rows or pages came free, or fewer are needed: somebody may fit who did not.
  void changed() { changed_ = true; }
  template <class F>
  void for_each(F&& f) const {
    for (const entry& e : waiting_) f(*e.request);
  }

  // The first request at place `at` or behind it of which wanted(request) holds, and `at` then the place that follows;
  // null where there is none. A request's place stays while none before it is taken out.
  template <class Wanted>
  std::shared_ptr<Request> find_from(size_t& at, Wanted&& wanted) const {
    while (at < waiting_.size())
      if (const std::shared_ptr<Request>& r = waiting_[at++].request; wanted(*r)) return r;
    return nullptr;
  }

  // Takes out the requests of which leaves(request) holds, wherever they wait.
  template <class Leaves>
  void remove_if(Leaves&& leaves) {
    if (std::erase_if(waiting_, [&](const entry& e) { return leaves(*e.request); }) > 0) changed_ = true;
  }

  // Whether admit() would admit anyone.
  template <class Fits>
  bool may_admit(Fits&& fits) {
    if (!changed_) return false;
    for (size_t i = 0; i < std::min(window, waiting_.size()); ++i) {
      if (fits(*waiting_[i].request)) return true;
      if (waiting_[i].passed >= patience) break;
    }
    changed_ = false;
    return false;
  }

  // Hands those that fit to take(request); each may change who fits after it.
  template <class Fits, class Take>
  void admit(Fits&& fits, Take&& take) {
    if (!changed_) return;
    for (size_t i = 0; i < std::min(window, waiting_.size());) {
      if (fits(*waiting_[i].request)) {
        for (size_t before = 0; before < i; ++before) ++waiting_[before].passed;
        std::shared_ptr<Request> admitted = std::move(waiting_[i].request);
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
        take(std::move(admitted));
      } else if (waiting_[i].passed >= patience) {
        break;
      } else {
        ++i;
      }
    }
    changed_ = false;
  }

 private:
  struct entry {
    std::shared_ptr<Request> request;
    int32_t passed = 0;  // by requests that came later
  };
  std::deque<entry> waiting_;
  bool changed_ = false;  // since everyone within the window was looked at
};

}  // namespace ft::runtime
