// Whether a plan is one, for a rank that got it from elsewhere: no array is read or written past its end, whatever the
// numbers in it.
#pragma once

#include <cstdint>

#include "runtime/plan/forward_plan.h"
#include "runtime/plan/step_plan.h"

namespace ft::runtime {

// Throws ft::error (FT_ERROR_INTERNAL) for a plan that contradicts itself: arrays whose lengths do not fit one another,
// offsets that do not rise to the end of what they divide, spans and indices outside what they point into, numbers that
// no sampling knows.
void check_plan(const step_plan& plan);
void check_plan(const forward_plan& plan);

// What a session and its model have.
struct plan_bounds {
  int64_t num_pages = 0;
  int64_t page_tokens = 0;
  int64_t max_rows = 0;  // of a step
  int64_t max_positions = 0;
  int64_t vocab_size = 0;
  int64_t encoder_vocab_size = 0;  // 0: there is no encoder
  int64_t embedding_size = 0;
  int64_t prefix_token_size = 0;  // values of a prefix for one of its positions: layers * 2 * num_kv_heads * head_dim
};

// Throws likewise for a plan, of which check_plan() holds, that names pages, positions or tokens which there are none
// of. Who else reads a page, and what was written to it, a plan does not say.
void check_bounds(const step_plan& plan, const plan_bounds& bounds);

// Throws likewise for a plan, of which check_plan() holds, that goes on from choices which the step launched before it
// in its session does not make.
void check_follows(const step_plan& plan, const sampling_metadata& before);

}  // namespace ft::runtime
