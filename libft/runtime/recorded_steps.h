// Decode steps that a device has recorded. A step of single tokens queues the same kernels on the same memory as the
// last one of its shape: only what it reads there differs. A GPU starts such a recording as one piece (a CUDA graph),
// which spares the launch of each kernel.
#pragma once

#include <compare>
#include <map>
#include <memory>

#include "nn/run.h"
#include "runtime/step_logits.h"

namespace ft::runtime {

class recorded_steps {
 public:
  // Whatever decides which kernels run and where they read.
  struct shape {
    int64_t rows = 0;
    int64_t table_width = 0;
    int64_t cross_table_width = 0;
    logit_rows logits;
    auto operator<=>(const shape&) const = default;
  };

  // The results of `pass(run)`: by running it, by recording it at the second step of a shape (the first finds
  // out how much memory it takes), or by repeating what was recorded.
  template <class Pass>
  logit_results compute(nn::run& run, const shape& s, Pass&& pass) {
    if (!run.ex.device.records(run.ex.stream)) return pass(run);
    forget_moved(run);
    if (const auto it = steps_.find(s); it != steps_.end() && it->second.work) {
      it->second.work->replay(run.ex.stream);
      return it->second.made;
    } else if (it != steps_.end()) {
      const uint64_t before = version(run);
      it->second.work = run.ex.device.record(run.ex.stream, [&] { it->second.made = pass(run); });
      const logit_results made = it->second.made;
      it->second.work->replay(run.ex.stream);
      if (version(run) != before) steps_.clear();  // it took memory that the next step may find elsewhere
      return made;
    }
    const logit_results made = pass(run);
    if (steps_.size() == most_shapes) steps_.clear();
    version_ = version(run);
    steps_[s] = {};
    return made;
  }

 private:
  static constexpr size_t most_shapes = 256;

  struct step {
    std::unique_ptr<recorded_work> work;
    logit_results made;
  };

  static uint64_t version(const nn::run& run) { return run.activations.version() + run.ex.scratch.version(); }

  // Recordings name memory: they are worth nothing once the arenas have moved.
  void forget_moved(const nn::run& run) {
    if (version(run) != version_) steps_.clear();
  }

  std::map<shape, step> steps_;
  uint64_t version_ = 0;  // of the arenas, when the steps were recorded
};

}  // namespace ft::runtime
