// Passes over whole sequences on one rank: what a forward_plan asks for, from the inputs' copy to the outputs' way to
// rank 0.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "arch/network.h"
#include "runtime/plan/forward_plan.h"
#include "runtime/worker/recorded_passes.h"
#include "runtime/worker/staged_upload.h"

namespace ft::runtime {

enum class forward_output : uint8_t { hidden, encoder_hidden, pooled, embedding, logits };

// Who asked for a pass, on rank 0. In a rehearsal it is asked, too: what it queues by run.ex is not done then.
class forward_caller {
 public:
  virtual ~forward_caller() = default;
  // Puts the embeddings of a side (the target's, or the input's) to `out` [tokens, width], of the dtype that the plan
  // says.
  virtual void give(nn::run& run, bool of_target, const tensor& out) = 0;
  // Takes rows [n, width] of an output, of which `first` is the first: tokens of the side that the output is of, or
  // its rows. They are gone when it returns, but for what was queued.
  virtual void take(nn::run& run, forward_output what, int64_t first, const tensor& rows) = 0;
  // All has been queued.
  virtual void end(nn::run& run) = 0;
};

class forward_pass {
 public:
  forward_pass(const arch::model_config& config, const arch::network& network, memory& from)
      : config_(config), network_(network), upload_(from) {}

  // Lays the plan's arrays out for their copy, and records the stack where its shape was seen before. Then compute(),
  // in this pass and others, until the next plan.
  void prepare(nn::run& run, const forward_plan& plan);
  // `caller`: null on all ranks but the first.
  void compute(nn::run& run, const forward_plan& plan, forward_caller* caller);

  // Memory has moved since the recording was made.
  void leave_recording() { recorded_ = nullptr; }
  void forget_recordings() { stacks_.clear(); }

 private:
  // Whatever decides which operations the first stack runs and where they read.
  struct stack_shape {
    int64_t tokens = 0;
    int64_t rows = 0;
    std::optional<dtype> embeds;
    bool type_ids = false;
    auto operator<=>(const stack_shape&) const = default;
  };
  struct staged_side {
    nn::ragged_batch batch;
    nn::embedded_rows embedded;
  };

  void stage(staged_side& s, const forward_side& side);
  void place_embeddings(nn::run& run, staged_side& s, const forward_side& side);
  void fill_embeddings(nn::run& run, const staged_side& s, const forward_side& side, forward_caller* caller);
  tensor first_stack(nn::run& run);
  tensor first_tokens(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) const;
  tensor pool(nn::run& run, const forward_plan& plan, const nn::ragged_batch& batch, const tensor& hidden) const;
  void outputs(nn::run& run, const forward_plan& plan, const nn::ragged_batch& batch, const tensor& hidden,
               forward_caller* caller);
  void logits(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden, forward_caller* caller);
  template <class Make>
  void deliver(nn::run& run, forward_output what, int64_t first, const tensor& shape, forward_caller* caller,
               Make&& make);

  const arch::model_config& config_;
  const arch::network& network_;
  staged_upload upload_;
  staged_side input_, target_;
  recorded_passes<stack_shape, tensor> stacks_;
  const recorded_passes<stack_shape, tensor>::recording* recorded_ = nullptr;
};

}  // namespace ft::runtime
