// Frequencies of rotary positions and the ways checkpoints stretch them to longer contexts: "linear"
// (arXiv:2306.15595), "llama3" (Llama 3.1's), "yarn" (arXiv:2309.00071). The values equal those of Hugging Face
// transformers to the rounding of float32, which is why each step below is rounded as it is there.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "arch/config/config.h"
#include "io/checkpoint.h"
#include "io/text/json.h"

namespace ft::arch {

struct rope_parameters {
  std::string type = "default";
  double theta = 10000;
  double factor = 1;
  double original_max_positions = 0;
  // llama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  // yarn
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 0;
  double mscale_all_dim = 0;
  bool truncate = true;
  std::optional<double> attention_factor;
};

// From config.json: transformers 5's `rope_parameters`, by layer type where they are ("sliding_attention"), or the
// older `rope_scaling` with `rope_theta` beside it. Throws ft::error (FT_ERROR_UNSUPPORTED) for a type not named above.
rope_parameters read_rope(const io::json_reader& config, std::string_view layer_type, double default_theta,
                          int64_t max_positions);

// From GGUF's "<architecture>.rope.*".
rope_parameters read_rope(const io::gguf_metadata& metadata, const std::string& architecture, int64_t max_positions);

// The frequencies of a head whose first rotary_dim elements are turned.
rotary_config make_rotary(const rope_parameters& parameters, int64_t rotary_dim);

}  // namespace ft::arch
