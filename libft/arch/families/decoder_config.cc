#include "arch/families/decoder_config.h"

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "arch/config/config_reading.h"
#include "core/status.h"

namespace ft::arch {
namespace {

head_kind head_of(const std::string& architecture, const io::json_reader& config) {
  for (const char* other : {"ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"})
    if (architecture.ends_with(other))
      fail(FT_ERROR_UNSUPPORTED, config.file(), ": ", architecture,
           " is not supported: decoders run as language models; BERT-like classifiers are supported");
  for (const char* language : {"ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "DoubleHeadsModel"})
    if (architecture.ends_with(language)) return head_kind::causal_lm;
  return head_kind::none;
}

bool really_tied(bool tied, const io::checkpoint& source, std::string_view output_name,
                 std::initializer_list<std::string_view> inputs) {
  const io::stored_tensor* output = source.find(output_name);
  const io::stored_tensor* input = nullptr;
  for (std::string_view name : inputs)
    if (!input) input = source.find(name);
  if (!tied || !input || !source.holds(output_name)) return tied;
  if (!output) return false;  // of a dtype that cannot be compared, or used: the weight table tells of it
  return same_elements(output->data, input->data);
}

}  // namespace

std::string_view given_key(const io::json_reader& config, std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys)
    if (config.has(key)) return key;
  return *keys.begin();
}

void read_decoder_head(model_config& c, const io::json_reader& config, const io::checkpoint& source, bool tied,
                       std::string_view output, std::initializer_list<std::string_view> inputs) {
  c.embedding.tied = really_tied(tied, source, output, inputs);
  const bool has_output = c.embedding.tied || source.holds(output);
  c.architecture = read_architecture(config, has_output ? "ForCausalLM" : "");
  c.head.kind = head_of(c.architecture, config);
  if (!config.has("architectures")) c.architecture = c.model_type;
}

std::vector<float> alibi_slopes_for(int64_t num_heads) {
  const auto lower = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_heads)));
  std::vector<float> slopes;
  const auto add = [&](int64_t heads, int64_t power) {
    const auto base = static_cast<float>(std::exp2(-8.0 / static_cast<double>(heads)));
    slopes.push_back(static_cast<float>(std::pow(base, static_cast<float>(power))));
  };
  for (int64_t i = 1; i <= lower; ++i) add(lower, i);
  for (int64_t i = 1; i <= 2 * (num_heads - lower); i += 2) add(2 * lower, i);
  return slopes;
}

void finish_decoder(model_config& c, const io::checkpoint& source) {
  if (c.hidden_size % c.attention.num_heads != 0)
    fail(FT_ERROR_CHECKPOINT, source.source(), ": hidden_size ", c.hidden_size, " is no multiple of the ",
         c.attention.num_heads, " attention heads");
  c.causal = true;
  c.attention.num_kv_heads = c.attention.num_heads;
  c.attention.head_dim = c.hidden_size / c.attention.num_heads;
  check_heads(c, source);
  c.attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.attention.head_dim)));
  c.layers.resize(static_cast<size_t>(c.num_layers));
  c.checkpoint_dtype = most_common_dtype(source);
  read_special_tokens(c, source);
}

}  // namespace ft::arch
