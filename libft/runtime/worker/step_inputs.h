// A step's plan on its way to the device: the arrays of both its parts, the stack's and the sampling's, in one copy.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/batch.h"
#include "runtime/plan/step_plan.h"
#include "runtime/worker/kv_storage.h"
#include "runtime/worker/sampling.h"
#include "runtime/worker/staged_upload.h"

namespace ft::runtime {

// On the device, once they are uploaded; where they are is known before.
struct step_inputs {
  nn::ragged_batch batch;  // but for what beams yet to be chosen read, and embedded rows
  tensor logits_tokens;    // [rows of logits] i32: which tokens of the step they follow; null: none
  tensor scored_at;        // [scored tokens] i32: element of the block's log-probabilities (worker.cc) for each
  sampling_inputs sampling;

  // Rows of a step of single tokens are made as many as `padded_rows` by rows that nobody asks for, which have a page
  // of their own, `page`; and so are the rows of logits. No rows: none.
  struct padding {
    int64_t rows = 0;
    int32_t page = 0;
  };
  void stage(staged_upload& upload, const step_plan& plan, const kv_storage& pages, const padding& to,
             int64_t vocab_size);

 private:
  std::vector<int32_t> scored_;
};

// How many scored tokens' logits exist at a time, since those of a long prompt could fill the memory.
inline constexpr int64_t scored_block = 64;

// So many rows that few different numbers of them are recorded, and a padded step costs little more: as they are up to
// 32, then in steps of an eighth at most.
int64_t padded_rows(int64_t rows);

}  // namespace ft::runtime
