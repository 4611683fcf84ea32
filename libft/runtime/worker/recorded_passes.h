// Passes that a device has recorded. A pass of the same shape as an earlier one queues the same kernels on the same
// memory: only what it reads there differs. A GPU starts such a recording as one piece (a CUDA graph), which spares the
// launch of each kernel.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "nn/run.h"

namespace ft::runtime {

// Shape: whatever decides which kernels run and where they read; ordered. Results: what a pass leaves on the device.
template <class Shape, class Results>
class recorded_passes {
 public:
  struct recording {
    std::unique_ptr<recorded_work> work;  // null: the shape was seen once
    Results made{};
    arena::position end;  // what it made lies before this
    uint64_t last_use = 0;

    // Queues the pass again. Cannot fail for want of memory.
    const Results& replay(nn::run& run) const {
      if (!run.ex.rehearses) work->replay(run.ex.stream);
      run.activations.go_to(end);
      return made;
    }
  };

  // Before a pass: its recording, made at the second pass of a shape, or null where it is to be run. Recording a pass
  // computes nothing; it takes from the run's arenas what the pass will, and leaves them as they were. `version`
  // changes when other memory that passes read has moved.
  template <class Pass>
  const recording* prepare(nn::run& run, uint64_t version, const Shape& shape, Pass&& pass) {
    if (!run.ex.device.records(run.ex.stream)) return nullptr;
    if (version + version_of(run) != version_) clear();  // recordings name memory, and it has moved
    version_ = version + version_of(run);
    const auto [it, is_new] = passes_.try_emplace(shape);
    it->second.last_use = ++uses_;
    if (is_new) {
      if (passes_.size() > most_shapes) forget_least_used();
      return nullptr;
    }
    recording& r = it->second;
    if (!r.work) {
      const arena::position activations = run.activations.where(), scratch = run.ex.scratch.where();
      r.work = run.ex.device.record(run.ex.stream, [&] { r.made = pass(run); });
      r.end = run.activations.where();
      run.activations.go_to(activations);
      run.ex.scratch.go_to(scratch);
      if (version + version_of(run) != version_) {  // it took memory that the next pass may find elsewhere
        clear();
        return nullptr;
      }
    }
    return &r;
  }

  void clear() { passes_.clear(); }
  size_t size() const { return passes_.size(); }

 private:
  static constexpr size_t most_shapes = 256;

  static uint64_t version_of(const nn::run& run) { return run.activations.version() + run.ex.scratch.version(); }
  void forget_least_used() {
    auto least = passes_.begin();
    for (auto it = passes_.begin(); it != passes_.end(); ++it)
      if (it->second.last_use < least->second.last_use) least = it;
    passes_.erase(least);
  }

  std::map<Shape, recording> passes_;
  uint64_t version_ = 0;  // of all memory, when the passes were recorded
  uint64_t uses_ = 0;
};

}  // namespace ft::runtime
