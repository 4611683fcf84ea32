// What a request must give whatever runs beside it: computed directly from the fake model, by decode/ alone, with every
// row of logits whole and no pages, steps or batches.
#pragma once

#include <cstdint>
#include <vector>

#include "decode/options.h"
#include "runtime/scheduler/model_limits.h"
#include "runtime/scheduler/request.h"
#include "runtime/scheduler/soft_prompt.h"

namespace ft::test {

// Everything a test submits, so that it can be computed again. Its callbacks are functions of tokens alone.
struct drawn_request {
  std::vector<int32_t> prompt;
  decode::options settings;
  runtime::soft_prompt soft;
  int32_t stops_one_in = 0;   // of should_stop: ends a sequence where the hash of its tokens is a multiple; 0: none
  int32_t steers_one_in = 0;  // of on_logits: changes a row in so many; 0: none
  bool constrains = false;    // constrain_logits bans a third of the tokens
  int32_t stop_after = 0;     // on_token says FT_STOP after so many; 0: never
  int32_t cancel_after = 0;   // on_token cancels after so many; 0: never

  runtime::request_callbacks callbacks() const;
};

struct expected_request {
  std::vector<runtime::output> outputs;
  std::vector<float> prompt_logprobs;
  ft_finish_reason reason = FT_FINISH_NONE;
  int64_t prompt_length = 0;
};

expected_request compute_directly(const drawn_request& r, const runtime::model_limits& limits);

}  // namespace ft::test
