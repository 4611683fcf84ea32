// What a device chooses of a row of logits, in the words that it and the host share.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace ft {

// How many of a row's best tokens a device can be asked for; and rounded up as they are asked for.
inline constexpr int64_t most_top_k = 256;
inline constexpr int32_t most_candidates = std::bit_ceil(static_cast<uint32_t>(most_top_k));

// Which continuation comes in the place of a beam (ops/beams.h).
struct beam_choice {
  int32_t token;
  int32_t parent;  // within the search
  float score;
};
inline constexpr int64_t beam_choice_size = sizeof(beam_choice) / sizeof(int32_t);

// The vocabulary of which a device can choose beams.
inline constexpr int64_t most_beam_tokens = int64_t{1} << 24;

// Which tokens of a row may be drawn (ops/sampling_threshold.h).
struct sampling_limits {
  double top_k = 0;  // 0: off
  double top_p = 1;  // 1: off
  double min_p = 0;  // 0: off
};

}  // namespace ft
