// One rank: its share of the network, the memory behind page numbers, the arenas, the stream and what was recorded of
// it. It executes plans and knows nothing of requests.
//
// A plan is prepared, then launched. Whatever can fail is done while it is prepared: memory grows, work is recorded,
// and what is not recorded is rehearsed (ops/exec.h). A launch queues what was prepared; where the device computes in
// the calling thread, it computes, and takes its memory then. README.md beside runtime/ has the rules on threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "arch/network.h"
#include "runtime/plan/step_plan.h"
#include "runtime/plan/step_results.h"
#include "runtime/worker/executor.h"
#include "runtime/worker/forward_pass.h"
#include "runtime/worker/open_session.h"

namespace ft::runtime {

// Asked between layers whether everyone has given up on what is computed.
struct cancellation {
  bool (*asked)(void*) = nullptr;
  void* data = nullptr;
};

// What a rank is and has.
struct rank_info {
  std::string device;
  int tensor_rank = 0, pipeline_stage = 0;
  int64_t first_layer = 0, num_layers = 0;  // of the decoder, where there are two stacks
  int64_t num_kv_heads = 0;
  uint64_t weight_bytes = 0;
  std::string transport;  // by which it speaks to its peers; empty: it has none
};

class worker {
 public:
  worker(const arch::model_config& config, std::unique_ptr<arch::network> network, std::unique_ptr<executor> where,
         const kv_layout& layout);

  const arch::network& network() const { return *network_; }
  executor& compute() { return *where_; }
  backend& device() const { return where_->device(); }
  rank_info info() const;
  // Bytes of one page over this rank's layers.
  int64_t page_bytes() const;

  // Takes what a session needs on this rank; close() gives it back when the device has come to rest on it.
  void open(uint64_t session, const session_memory& needs);
  void close(uint64_t session) noexcept;

  void prepare(const step_plan& plan);
  void launch(const step_plan& plan, const cancellation& cancel = {});
  // Passes over whole sequences; `caller` on rank 0 alone, elsewhere null.
  void prepare(const forward_plan& plan, forward_caller* caller);
  void launch(const forward_plan& plan, forward_caller* caller);
  // What the last step of this slot brings; waits for it.
  step_results results(uint64_t session, int32_t slot);
  // Waits for whatever is under way of a session; an error of the device's is passed over.
  void come_to_rest(uint64_t session) noexcept;

  // Recordings hold the algorithms of their time.
  void forget_recordings();

  uint64_t steps_replayed() const { return steps_replayed_; }

 private:
  open_session& session_at(uint64_t session);
  int64_t spare_pages() const { return where_->device().records(where_->stream()) ? 1 : 0; }
  step_inputs::padding padding_for(const open_session& s, const step_plan& plan) const;
  void expect_results(nn::run& run, open_session& s, const step_plan& plan);
  void find_recordings(nn::run& run, open_session& s, const step_plan& plan);
  void run_step(nn::run& run, open_session& s, const step_plan& plan);
  template <class Pass>
  void launch_pass(const cancellation& cancel, Pass&& pass);
  void encode_sources(nn::run& run, const open_session& s, const encoder_plan& plan);
  void copy_pages(nn::run& run, const open_session& s, const step_plan& plan);
  void place_reordered(nn::run& run, open_session& s, const step_plan& plan);
  decode_shape stack_shape(const open_session& s, const step_plan& plan) const;
  void reorder_beams(nn::run& run, open_session& s, const step_plan& plan);
  void write_prefixes(nn::run& run, const open_session& s, const step_plan& plan);
  static int64_t num_logits(const open_session& s);
  tensor place_logits(nn::run& run, const open_session& s) const;
  void run_stack(nn::run& run, open_session& s, const step_plan& plan, const tensor& scored, const tensor& logits);
  void run_sampling(nn::run& run, open_session& s, const tensor& logits);
  tensor sample(nn::run& run, open_session& s, const sampling_shape& shape, const tensor& logits);
  void share_results(nn::run& run, const open_session& s, const sampling_shape& shape, const tensor& made,
                     const tensor& scored);
  void score_prompts(nn::run& run, const open_session& s, const step_plan& plan, const tensor& hidden,
                     const tensor& scored);
  void compute_rows(nn::run& run, open_session& s, const step_plan& plan);
  std::span<const nn::embedded_rows> upload_embedded(nn::run& run, const embedded_tokens& given);

  arch::model_config config_;
  kv_layout layout_;
  std::unique_ptr<executor> where_;
  std::unique_ptr<arch::network> network_;
  std::mutex sessions_mutex_;  // guards the map; a session's own is its driver's
  std::map<uint64_t, std::unique_ptr<open_session>> sessions_;
  forward_pass forward_;

  // Of the plan that was prepared last; used inside compute() alone.
  const recorded_passes<decode_shape, open_session::nothing>::recording* stack_ = nullptr;
  const recorded_passes<sampling_pass_shape, open_session::nothing>::recording* sampling_ = nullptr;
  std::vector<nn::embedded_rows> embedded_;
  std::vector<int32_t> staged_;
  std::atomic<uint64_t> steps_replayed_{0};
};

}  // namespace ft::runtime
