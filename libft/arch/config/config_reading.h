// What the config maps of all families read alike: sizes with limits, activations by name, heads, special tokens.
#pragma once

#include <string>
#include <string_view>

#include "arch/config/config.h"
#include "io/checkpoint.h"

namespace ft::arch {

// A size from config.json: at least 1 and small enough that products of sizes cannot overflow.
int64_t read_size(const io::json_reader& config, std::string_view key);
int64_t read_size(const io::json_reader& config, std::string_view key, int64_t otherwise);

// The same from GGUF metadata.
int64_t read_size(const io::gguf_metadata& metadata, const std::string& key);
int64_t read_size(const io::gguf_metadata& metadata, const std::string& key, int64_t otherwise);

// A layer count: vectors are made of this size before any tensor proves it.
int64_t read_layer_count(const io::json_reader& config, std::string_view key);
int64_t read_layer_count(const io::json_reader& config, std::string_view key, int64_t otherwise);
int64_t read_layer_count(const io::gguf_metadata& metadata, const std::string& key);

// Hugging Face's name of an activation. Throws ft::error (FT_ERROR_UNSUPPORTED) naming it when there is none such here.
activation_kind read_activation(const io::json_reader& config, std::string_view key, std::string_view otherwise);
// The same for a name read already, from `key` of `file`.
activation_kind activation_named(std::string_view name, std::string_view key, const std::string& file);

// config.json's architectures[0]; `otherwise` when there is none.
std::string read_architecture(const io::json_reader& config, std::string_view otherwise);

// Throws ft::error (FT_ERROR_CHECKPOINT) when heads and sizes contradict each other.
void check_heads(const stack_config& config, const io::checkpoint& source);

// The same unless rotary positions can turn `rotary_dim` elements of each head; `file` is named.
void check_rotary_dim(int64_t rotary_dim, int64_t head_dim, const std::string& file);

// The stop, bos and pad tokens: from generation_config.json, else config.json, or from GGUF metadata.
void read_special_tokens(model_config& config, const io::checkpoint& source);

// The tokens with which an encoder-decoder's answers begin and end: decoder_start_token_id, forced_bos_token_id and
// forced_eos_token_id, from generation_config.json where there is one, else config.json, where `defaults` hold.
struct decoder_tokens {
  int32_t decoder_start = -1;
  int32_t forced_eos = -1;
};
void read_decoder_tokens(model_config& config, const io::checkpoint& source, const decoder_tokens& defaults);

// An id under the key; -1 when none is given.
int32_t read_token_id(const io::json_reader& config, std::string_view key);

// Whether two stored tensors hold the same, as those of tied weights do.
bool same_elements(const tensor& a, const tensor& b);

// The dtype that most of the checkpoint's elements have.
std::string most_common_dtype(const io::checkpoint& source);

// The first dimension of a tensor that must be there.
int64_t rows_of(const io::checkpoint& source, std::string_view tensor);

// sentence-transformers: modules.json and its 1_Pooling/config.json into the pooling.
void read_sentence_modules(model_config& config, const io::checkpoint& source);

}  // namespace ft::arch
