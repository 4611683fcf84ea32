// What a request asks for, checked against the model and worked out before the request is made: what its encoder and
// its decoder read, how long its sequences may grow, and how many pages they can come to hold.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/options.h"
#include "runtime/scheduler/model_limits.h"
#include "runtime/scheduler/soft_prompt.h"

namespace ft::runtime {

struct request_plan {
  std::vector<int32_t> source;  // what the encoder reads; empty where the model has none
  std::vector<int32_t> prompt;  // what the decoder starts with; embedded_token where an embedding is given
  int64_t last_length = 0;      // tokens after which a sequence ends: prompt and max_new_tokens, within max_positions
  int64_t source_pages = 0;     // of the decoder's keys and values of the source
  int64_t row_pages = 0;        // of one sequence at its longest
  int64_t most_pages = 0;       // of all: the source's, the prompt's full pages once, and the rest for each sequence
};

inline int64_t pages_for(int64_t tokens, int64_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

// Lowers settings.max_new_tokens to what the model's positions allow. Throws ft::error (FT_ERROR_INVALID_ARGUMENT,
// FT_ERROR_UNSUPPORTED).
request_plan plan_request(const model_limits& limits, int64_t page_tokens, std::span<const int32_t> prompt,
                          decode::options& settings, const soft_prompt& soft);

}  // namespace ft::runtime
