#include "arch/config/config_reading.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"

namespace ft::arch {
namespace {

constexpr int64_t largest_size = int64_t{1} << 30;
constexpr int64_t most_layers = 10000;

int64_t in_range(int64_t value, int64_t largest, const std::string& file, std::string_view key) {
  if (value < 1 || value > largest)
    fail(FT_ERROR_CHECKPOINT, file, ": ", key, " is ", value, "; it must be from 1 to ", largest);
  return value;
}

int32_t token_id(int64_t value, const std::string& file, std::string_view key) {
  if (value < -1 || value > std::numeric_limits<int32_t>::max())
    fail(FT_ERROR_CHECKPOINT, file, ": ", key, " is ", value, ", which is no token id");
  return static_cast<int32_t>(value);
}

// An id, a list of ids, or nothing. Configurations write -1 or null for "none".
void add_token_ids(std::vector<int32_t>& ids, const io::json_reader& config, std::string_view key) {
  const io::json* given = config.find(key);
  if (!given) return;
  const auto add = [&](const io::json& id) {
    if (!id.is_number_integer())
      fail(FT_ERROR_CHECKPOINT, config.file(), ": ", key, " is neither an integer nor a list of integers");
    if (const int32_t value = token_id(id.get<int64_t>(), config.file(), key); value >= 0) ids.push_back(value);
  };
  if (given->is_array())
    for (const io::json& id : *given) add(id);
  else
    add(*given);
}

void read_hugging_face_tokens(model_config& config, const io::checkpoint& source) {
  const io::json_reader main = source.config();
  if (const io::json_ptr generation = source.read_json("generation_config.json"))
    add_token_ids(config.tokens.stop_ids, {*generation, source.source() + "/generation_config.json"}, "eos_token_id");
  if (config.tokens.stop_ids.empty()) add_token_ids(config.tokens.stop_ids, main, "eos_token_id");
  config.tokens.bos_id = read_token_id(main, "bos_token_id");
  config.tokens.pad_id = read_token_id(main, "pad_token_id");
}

// Tokens that end a turn, for files that name no end-of-turn token of their own.
constexpr std::array<std::string_view, 4> end_of_turn = {"<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"};

void read_gguf_tokens(model_config& config, const io::checkpoint& source) {
  const io::gguf_metadata& metadata = source.metadata();
  const auto read = [&](const char* key) { return token_id(metadata.integer(key, -1), source.source(), key); };
  std::vector<int32_t>& stop = config.tokens.stop_ids;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (const int32_t id = read(key); id >= 0 && std::find(stop.begin(), stop.end(), id) == stop.end())
      stop.push_back(id);
  config.tokens.bos_id = read("tokenizer.ggml.bos_token_id");
  config.tokens.pad_id = read("tokenizer.ggml.padding_token_id");

  const io::gguf_value* tokens = metadata.find("tokenizer.ggml.tokens");
  const auto* texts = tokens ? std::get_if<std::vector<std::string>>(&tokens->data) : nullptr;
  if (!texts || metadata.find("tokenizer.ggml.eot_token_id")) return;
  for (size_t i = 0; i < texts->size(); ++i) {
    if (std::find(end_of_turn.begin(), end_of_turn.end(), (*texts)[i]) == end_of_turn.end()) continue;
    const auto id = static_cast<int32_t>(i);
    if (std::find(stop.begin(), stop.end(), id) == stop.end()) stop.push_back(id);
  }
}

}  // namespace

int32_t read_token_id(const io::json_reader& config, std::string_view key) {
  std::vector<int32_t> ids;
  add_token_ids(ids, config, key);
  return ids.empty() ? -1 : ids.front();
}

bool same_elements(const tensor& a, const tensor& b) {
  if (a.data == b.data && a.type == b.type && a.shape == b.shape && a.stride == b.stride) return true;
  return a.type == b.type && a.size() == b.size() && a.contiguous() && b.contiguous() &&
         std::memcmp(a.data, b.data, bytes_of(a.type, a.size())) == 0;
}

int64_t read_size(const io::json_reader& config, std::string_view key) {
  return in_range(config.integer(key), largest_size, config.file(), key);
}

int64_t read_size(const io::json_reader& config, std::string_view key, int64_t otherwise) {
  return in_range(config.integer(key, otherwise), largest_size, config.file(), key);
}

int64_t read_size(const io::gguf_metadata& metadata, const std::string& key) {
  return in_range(metadata.integer(key), largest_size, metadata.file(), key);
}

int64_t read_size(const io::gguf_metadata& metadata, const std::string& key, int64_t otherwise) {
  return in_range(metadata.integer(key, otherwise), largest_size, metadata.file(), key);
}

int64_t read_layer_count(const io::json_reader& config, std::string_view key) {
  return in_range(config.integer(key), most_layers, config.file(), key);
}

int64_t read_layer_count(const io::json_reader& config, std::string_view key, int64_t otherwise) {
  return in_range(config.integer(key, otherwise), most_layers, config.file(), key);
}

int64_t read_layer_count(const io::gguf_metadata& metadata, const std::string& key) {
  return in_range(metadata.integer(key), most_layers, metadata.file(), key);
}

activation_kind read_activation(const io::json_reader& config, std::string_view key, std::string_view otherwise) {
  return activation_named(config.string(key, otherwise), key, config.file());
}

activation_kind activation_named(std::string_view name, std::string_view key, const std::string& file) {
  static constexpr std::pair<std::string_view, activation_kind> kinds[] = {
      {"gelu", activation_kind::gelu},
      {"gelu_python", activation_kind::gelu},
      {"gelu_new", activation_kind::gelu_tanh},
      {"gelu_fast", activation_kind::gelu_tanh},
      {"gelu_accurate", activation_kind::gelu_tanh},
      {"gelu_pytorch_tanh", activation_kind::gelu_tanh},
      {"gelu_python_tanh", activation_kind::gelu_tanh},
      {"relu", activation_kind::relu},
      {"silu", activation_kind::silu},
      {"swish", activation_kind::silu},
      {"tanh", activation_kind::tanh},
  };
  std::string known;
  for (const auto& [text, kind] : kinds) {
    if (text == name) return kind;
    known += cat(known.empty() ? "" : ", ", text);
  }
  fail(FT_ERROR_UNSUPPORTED, file, ": ", key, " '", name, "' is not supported; supported are ", known);
}

std::string read_architecture(const io::json_reader& config, std::string_view otherwise) {
  const io::json* names = config.find("architectures");
  if (!names) return std::string(otherwise);
  if (!names->is_array() || (!names->empty() && !names->front().is_string()))
    fail(FT_ERROR_CHECKPOINT, config.file(), ": architectures is not a list of names");
  return names->empty() ? std::string(otherwise) : names->front().get<std::string>();
}

void check_heads(const stack_config& config, const io::checkpoint& source) {
  if (config.attention.num_heads % config.attention.num_kv_heads != 0)
    fail(FT_ERROR_CHECKPOINT, source.source(), ": ", config.attention.num_heads, " attention heads cannot share ",
         config.attention.num_kv_heads, " key and value heads: the one is no multiple of the other");
  constexpr int64_t widest_head = 4096, most_heads = 1 << 20;  // a list may have one element a head
  if (config.attention.num_heads > most_heads)
    fail(FT_ERROR_CHECKPOINT, source.source(), ": ", config.attention.num_heads, " attention heads; at most ",
         most_heads, " can be");
  if (config.attention.head_dim < 1 || config.attention.head_dim > widest_head ||
      config.attention.num_heads > largest_size / config.attention.head_dim)
    fail(FT_ERROR_CHECKPOINT, source.source(), ": heads of ", config.attention.head_dim, " elements, ",
         config.attention.num_heads, " of them, cannot be; head_dim must be from 1 to ", widest_head);
}

void check_rotary_dim(int64_t rotary_dim, int64_t head_dim, const std::string& file) {
  if (rotary_dim < 2 || rotary_dim > head_dim || rotary_dim % 2 != 0)
    fail(FT_ERROR_CHECKPOINT, file, ": rotary positions cannot turn ", rotary_dim, " elements of heads of ", head_dim,
         ": they turn pairs, so the number must be even, at least 2 and at most that");
}

void read_special_tokens(model_config& config, const io::checkpoint& source) {
  if (source.format() == io::checkpoint_format::gguf)
    read_gguf_tokens(config, source);
  else
    read_hugging_face_tokens(config, source);
}

void read_decoder_tokens(model_config& config, const io::checkpoint& source, const decoder_tokens& defaults) {
  const io::json_ptr generation = source.read_json("generation_config.json");
  const io::json_reader main = source.config();
  const io::json_reader settings =
      generation ? io::json_reader{*generation, source.source() + "/generation_config.json"} : main;
  // What a configuration class knows by default a file leaves out.
  const auto first_of = [&](const char* key, int32_t otherwise) {
    const int32_t id = read_token_id(settings, key);
    return id >= 0 || generation || main.value().contains(key) ? id : otherwise;
  };
  config.tokens.decoder_start_id = first_of("decoder_start_token_id", defaults.decoder_start);
  if (config.tokens.decoder_start_id < 0)
    config.tokens.decoder_start_id = read_token_id(main, "decoder_start_token_id");
  if (config.tokens.decoder_start_id < 0) config.tokens.decoder_start_id = config.tokens.bos_id;
  config.tokens.forced_bos_id = first_of("forced_bos_token_id", -1);
  add_token_ids(config.tokens.forced_eos_ids, settings, "forced_eos_token_id");
  if (!generation && !main.value().contains("forced_eos_token_id") && defaults.forced_eos >= 0)
    config.tokens.forced_eos_ids = {defaults.forced_eos};
}

std::string most_common_dtype(const io::checkpoint& source) {
  std::array<int64_t, 32> elements{};
  for (const io::stored_tensor& t : source.tensors()) {
    const dtype type = t.data.type;
    if (is_float(type) || is_quantised(type)) elements[static_cast<size_t>(type)] += t.data.size();
  }
  const auto most = std::max_element(elements.begin(), elements.end());
  return std::string(name(*most > 0 ? static_cast<dtype>(most - elements.begin()) : dtype::f32));
}

int64_t rows_of(const io::checkpoint& source, std::string_view tensor) {
  const io::stored_tensor* stored = source.find(tensor);
  if (!stored || stored->data.rank < 1) fail(FT_ERROR_CHECKPOINT, source.source(), ": tensor ", tensor, " is missing");
  return in_range(stored->data.dim(0), largest_size, source.source(), tensor);
}

}  // namespace ft::arch
