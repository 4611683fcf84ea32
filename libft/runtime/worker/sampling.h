// The device's part of choosing tokens: what a step's plan wants of its logits (plan/sampling_metadata.h), carried out
// where the logits are.
#pragma once

#include <cstdint>

#include "nn/run.h"
#include "runtime/plan/sampling_metadata.h"
#include "runtime/worker/staged_upload.h"

namespace ft::runtime {

// The metadata's arrays on the device; null where there is nothing.
struct sampling_inputs {
  sampling_shape shape;
  tensor edits;         // [num_edits, 3] i32, as ops/edit_logits.h has them
  tensor penalties;     // [rows, 3] f32
  tensor late_edits;    // [rows, 2] i32
  tensor temperatures;  // [rows with candidates + sampled] f32
  tensor uniforms;      // [drawn] f64
  tensor thresholds;    // [thresholded, 3] f64, as ops/sampling_threshold.h has them
  tensor beam_rows;     // [next beams] i32
  tensor beam_offsets;  // [num_groups + 1] i32
  tensor beam_stops;    // [num_groups, num_stops] i32
  tensor scores;        // [rows of the step] f32

  // All but the scores of beams that the device itself has chosen, which the caller fills in.
  void stage(staged_upload& upload, const sampling_metadata& m);
};

// `logits` [rows, vocab_size] f32, which become what the uses of the rows say; what is chosen goes to `chosen` i32,
// laid out by choice_layout, which holds what the step before chose until then.
void choose(nn::run& run, const tensor& logits, const tensor& chosen, const sampling_inputs& in);

}  // namespace ft::runtime
