// Passes that a device has recorded. A pass of the same shape as an earlier one queues the same kernels on the same
// memory: only what it reads there differs. A GPU starts such a recording as one piece (a CUDA graph), which spares the
// launch of each kernel.
#pragma once

#include <map>
#include <memory>

#include "nn/run.h"

namespace ft::runtime {

// Shape: whatever decides which kernels run and where they read; ordered. Results: what a pass leaves on the device.
template <class Shape, class Results>
class recorded_passes {
 public:
  // The results of `pass(run)`: by running it, by recording it at the second pass of a shape (the first finds
  // out how much memory it takes), or by repeating what was recorded.
  template <class Pass>
  Results compute(nn::run& run, const Shape& shape, Pass&& pass) {
    if (!run.ex.device.records(run.ex.stream)) return pass(run);
    if (version(run) != version_) passes_.clear();  // recordings name memory, and the arenas have moved
    const auto it = passes_.find(shape);
    if (it == passes_.end()) {
      const Results made = pass(run);
      if (passes_.size() == most_shapes) passes_.clear();
      version_ = version(run);
      passes_[shape] = {};
      return made;
    }
    recording& r = it->second;
    if (r.work) {
      r.work->replay(run.ex.stream);
      run.activations.go_to(r.end);
      return r.made;
    }
    r.work = run.ex.device.record(run.ex.stream, [&] { r.made = pass(run); });
    r.end = run.activations.where();
    const Results made = r.made;
    r.work->replay(run.ex.stream);
    if (version(run) != version_) passes_.clear();  // it took memory that the next pass may find elsewhere
    return made;
  }

  void clear() { passes_.clear(); }

 private:
  static constexpr size_t most_shapes = 256;

  struct recording {
    std::unique_ptr<recorded_work> work;
    Results made{};
    arena::position end;  // what it made lies before this
  };

  static uint64_t version(const nn::run& run) { return run.activations.version() + run.ex.scratch.version(); }

  std::map<Shape, recording> passes_;
  uint64_t version_ = 0;  // of the arenas, when the passes were recorded
};

}  // namespace ft::runtime
