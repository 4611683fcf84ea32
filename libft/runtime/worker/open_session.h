// What a worker holds for one session: the memory behind its pages, what its steps leave on the device for the next
// ones, their recordings, and where results arrive on the host.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "nn/run.h"
#include "runtime/plan/step_plan.h"
#include "runtime/plan/step_results.h"
#include "runtime/worker/kv_storage.h"
#include "runtime/worker/recorded_passes.h"
#include "runtime/worker/staged_upload.h"
#include "runtime/worker/step_inputs.h"

namespace ft::runtime {

// What a session needs of each rank.
struct session_memory {
  int64_t num_pages = 0;
  int64_t max_batch_size = 0;
};

// Where results of one of the two steps under way arrive. What is fastest to copy to; only ever grown.
struct arrivals {
  sampling_shape shape;
  size_t num_scored = 0;
  buffer whole, chosen, scored;
  std::shared_ptr<stream_point> arrived;  // null where the device computes in the calling thread
  bool under_way = false;

  void wait() {
    if (!under_way) return;
    under_way = false;
    arrived->wait();
  }
};

// Whatever decides which operations sampling runs and where they read, beside the fixed places.
struct sampling_pass_shape {
  sampling_shape sampling;
  bool follows_beams = false;  // whose scores the device has
  auto operator<=>(const sampling_pass_shape&) const = default;
};

struct open_session {
  open_session(backend& device, memory& from, const kv_layout& layout, int64_t num_layers, const session_memory& needs,
               int64_t spare_pages)
      : pages(device, from, layout, num_layers, needs.num_pages + spare_pages),
        padding_page(static_cast<int32_t>(needs.num_pages)),
        chosen_memory(from, bytes_of(dtype::i32, most_choice_elements(needs.max_batch_size))),
        chosen(chosen_memory.data(), dtype::i32, {most_choice_elements(needs.max_batch_size)}),
        scores_memory(from, bytes_of(dtype::f32, needs.max_batch_size)),
        beam_scores(scores_memory.data(), dtype::f32, {needs.max_batch_size}),
        upload(from) {}

  kv_storage pages;
  int32_t padding_page;  // behind those that the scheduler knows, where there is one
  buffer chosen_memory;
  tensor chosen;  // [most] i32: what the last step has chosen, as choice_layout has it
  buffer scores_memory;
  tensor beam_scores;  // [max_batch_size] f32, of beams whose parents the device has chosen

  staged_upload upload;
  step_inputs inputs;
  struct nothing {};
  recorded_passes<decode_shape, nothing> stacks;
  recorded_passes<sampling_pass_shape, nothing> samplings;
  std::array<arrivals, 2> results;
};

}  // namespace ft::runtime
