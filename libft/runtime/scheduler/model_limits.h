// What the scheduler knows of a model: numbers that bound prompts and texts.
#pragma once

#include <cstdint>
#include <string>

namespace ft::runtime {

struct model_limits {
  std::string name;            // for messages: "LlamaForCausalLM"
  int64_t vocab_size = 0;      // of what is generated
  int64_t max_positions = 0;   // tokens of a sequence, a prefix among them
  int64_t embedding_size = 0;  // of a soft prompt's rows
  bool is_encoder_decoder = false;
  int64_t encoder_vocab_size = 0;
  int32_t decoder_start_token_id = -1;  // -1: the caller gives it
};

}  // namespace ft::runtime
