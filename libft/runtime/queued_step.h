// One step on its way: what it computes, where its results arrive, and when. A session has two, so that a device which
// computes beside the host gets its next step while it is at the last (session.h).
#pragma once

#include <memory>
#include <vector>

#include "runtime/encoder_batch.h"
#include "runtime/model.h"
#include "runtime/recorded_passes.h"
#include "runtime/step_batch.h"
#include "runtime/step_logits.h"

namespace ft::runtime {

using recorded_steps = recorded_passes<step_shape, logit_results>;

class queued_step {
 public:
  explicit queued_step(const arch::model_config& config)
      : sources(config.output_size()), batch(config.output_size(), config.tokens.vocab_size) {}
  ~queued_step() { drop(); }
  queued_step(const queued_step&) = delete;
  queued_step& operator=(const queued_step&) = delete;

  void reserve(const arch::model_config& config, int64_t rows, int64_t tokens);

  // Which requests' sources are encoded, which sequences' tokens are computed, and what of the logits arrives.
  encoder_batch sources;
  step_batch batch;
  step_logits logits;

  bool empty() const { return sources.empty() && batch.empty(); }
  // Waits for what was queued before, if need be. Queues the step on the model's stream. `chosen`: where the device
  // leaves the tokens it chooses, and finds those of the step before (step_logits.h).
  void launch(model& on, const page_pool& pool, recorded_steps& recorded, const tensor& chosen);
  // Returns when the results are there.
  void wait();
  // Keeps a request of the step, which has finished, until clear().
  void hold(std::shared_ptr<request> r) { held_.push_back(std::move(r)); }
  // Forgets the requests. What is under way goes on, into memory of the step's own. Allocates nothing.
  void clear();
  // Waits, whatever comes of it, and forgets.
  void drop() noexcept;

  bool all_finished() const;

 private:
  void mark_results(nn::run& run);

  std::shared_ptr<stream_point> results_;  // null where the device computes in the calling thread
  bool is_under_way_ = false;
  std::vector<std::shared_ptr<request>> held_;
};

}  // namespace ft::runtime
