// A configuration kept in a manifest: every field there, to the bit, and nothing believed when it is read.
#include "arch/config/config_json.h"

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "arch/config/config_fields.h"
#include "check.h"

using namespace ft;
using namespace ft::arch;

namespace {

// The number of fields of an aggregate: as many initialisers as it takes, each of a type that becomes any other.
struct anything {
  template <class T>
  operator T() const;
};
template <class T, size_t... i>
constexpr bool takes(std::index_sequence<i...>) {
  return requires { T{(static_cast<void>(i), anything{})...}; };
}
template <class T, size_t count = 1>
constexpr size_t field_count() {
  if constexpr (takes<T>(std::make_index_sequence<count + 1>()))
    return field_count<T, count + 1>();
  else
    return count;
}

template <class T>
size_t visited(const T& config) {
  size_t fields = 0;
  visit_fields(config, [&](const char*, const auto&) { ++fields; });
  return fields;
}

template <class... Structs>
void check_counts() {
  (CHECK_EQ(visited(Structs()), field_count<Structs>()), ...);
}

TEST(no_field_of_a_configuration_is_forgotten) {
  check_counts<rotary_config, layer_config, attention_config, mlp_config, norm_config, positions_config, stack_config,
               tokens_config, embedding_config, head_config, pooling_config>();
  // A model is a stack, which is one initialiser of it.
  const auto model = std::make_unique<model_config>();
  CHECK_EQ(visited(*model), field_count<model_config>() - 1 + field_count<stack_config>());
}

TEST(every_value_has_a_path_of_its_own) {
  const auto model = std::make_unique<model_config>();
  std::set<std::string> paths;
  size_t values = 0;
  visit_values(*model, [&](const std::string& path, const auto&) {
    paths.insert(path);
    ++values;
  });
  CHECK_EQ(paths.size(), values);
  for (const char* path : {"hidden_size", "attention.num_heads", "positions.rotary", "encoder.mlp.activation"})
    CHECK_MSG(paths.contains(path), path);
}

// The keys of ft_model_config, which those who read them rely on.
const std::set<std::string> keys_of_all = {"activation",
                                           "architecture",
                                           "attention_bias",
                                           "attention_scale",
                                           "bos_token_id",
                                           "checkpoint_dtype",
                                           "family",
                                           "feed_forward_bias",
                                           "head",
                                           "head_dim",
                                           "hidden_size",
                                           "intermediate_size",
                                           "is_encoder_decoder",
                                           "max_positions",
                                           "model_type",
                                           "norm",
                                           "norm_epsilon",
                                           "num_heads",
                                           "num_kv_heads",
                                           "num_layers",
                                           "pad_token_id",
                                           "pooling",
                                           "pooling_normalize",
                                           "stop_token_ids",
                                           "tied_embeddings",
                                           "vocab_size"};

void check_keys(const model_config& c, std::set<std::string> more) {
  more.insert(keys_of_all.begin(), keys_of_all.end());
  const io::json_ptr tree = c.to_json();
  std::set<std::string> keys;
  for (const auto& [key, value] : tree->items()) keys.insert(key);
  for (const std::string& key : more) CHECK_MSG(keys.contains(key), key, " is missing");
  for (const std::string& key : keys) CHECK_MSG(more.contains(key), key, " is new");
}

TEST(public_keys_are_as_ever) {
  model_config c;
  check_keys(c, {"has_pooler", "type_vocab_size"});
  c.head.num_labels = 1;
  check_keys(c, {"has_pooler", "type_vocab_size", "num_labels", "label_names"});
  c.head.num_labels = 0;
  c.causal = true;
  const std::set<std::string> decoders = {"attention_softcap", "block",          "embedding_scale",
                                          "embedding_size",    "logits_softcap", "num_sliding_layers",
                                          "positions",         "query_key_norm", "sliding_window"};
  check_keys(c, decoders);
  std::set<std::string> turned = decoders;
  turned.insert({"rotary_dim", "rope_theta", "rope_scaling", "rope_local_theta"});
  c.positions.rotary.resize(2);
  check_keys(c, turned);
  c.is_encoder_decoder = true;
  check_keys(c, {"num_encoder_layers", "num_encoder_heads", "encoder_intermediate_size", "encoder_vocab_size",
                 "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_ids", "relative_buckets",
                 "relative_max_distance", "gated_feed_forward", "embedding_scale", "output_scale"});
}

TEST(people_read_values_as_they_were_written) {
  model_config c;
  c.norm.epsilon = 1e-5f;
  c.norm.kind = norm_kind::rms;
  c.pooling.kind = pool_kind::first;
  c.attention.num_heads = 3;
  c.encoder.attention.num_heads = 4;
  c.is_encoder_decoder = true;
  c.tokens.stop_ids = {1, 2};
  const io::json_ptr tree = c.to_json();
  CHECK(tree->at("norm_epsilon") == 1e-5 && tree->at("norm") == "rms_norm" && tree->at("pooling") == "cls");
  CHECK(tree->at("num_heads") == 3 && tree->at("num_encoder_heads") == 4);
  CHECK_EQ(tree->at("stop_token_ids").dump(), "[1,2]");
}

model_config some_config() {
  model_config c;
  c.family = "llama";
  c.tokens.vocab_size = 7;
  c.hidden_size = 8;
  c.num_layers = 2;
  c.attention = {.num_heads = 2, .num_kv_heads = 2, .head_dim = 4};
  c.mlp = {.kind = mlp_kind::gated, .intermediate_size = 5, .activation = activation_kind::gelu_tanh};
  c.block = block_kind::normed_residual;
  c.norm.epsilon = 1.0f / 3;
  c.layers = {{.window = 3, .rotary = 1}, {.attention_scale = 0.1f}};
  c.positions.rotary = {{.inverse_frequency = {1, 0.1f}, .style = rotary_style::interleaved, .theta = 1e-300}, {}};
  c.tokens.stop_ids = {-1, 2147483647};
  c.head.label_names = {"a \"quoted\" name"};
  c.head.num_labels = 1;
  return c;
}

io::json_ptr again(const model_config& config) {
  return io::parse_json(config_to_json(config)->dump(), "manifest.json");
}

TEST(a_configuration_comes_back_to_the_bit) {
  const io::json_ptr kept = again(some_config());
  const model_config back = config_from_json(io::json_reader(*kept, "manifest.json"));
  CHECK(*again(back) == *kept);
  CHECK(back.norm.epsilon == 1.0f / 3 && back.layers[1].attention_scale == 0.1f && back.mlp.gated());
  const rotary_config& rotary = back.positions.rotary[0];
  CHECK(rotary.theta == 1e-300 && rotary.inverse_frequency[1] == 0.1f && rotary.style == rotary_style::interleaved);
  CHECK(back.block == block_kind::normed_residual && back.attention.head_dim == 4);
  CHECK(back.head.label_names == some_config().head.label_names &&
        back.tokens.stop_ids == some_config().tokens.stop_ids);
}

// The kept configuration with one change must be refused.
void check_refused(const char* text, const std::function<void(io::json&)>& change,
                   ft_status status = FT_ERROR_CHECKPOINT) {
  const io::json_ptr kept = again(some_config());
  change(*kept);
  CHECK_ERROR(status, text, config_from_json(io::json_reader(*kept, "manifest.json")));
}

TEST(a_kept_configuration_is_not_believed) {
  check_refused("'config.hidden_size' must be an integer", [](io::json& c) { c["hidden_size"] = "8"; });
  check_refused("'hidden_size' is -8, out of range", [](io::json& c) { c["hidden_size"] = -8; });
  check_refused("'encoder.positions.max' is -1, out of range",
                [](io::json& c) { c["encoder"]["positions"]["max"] = -1; });
  check_refused("out of range", [](io::json& c) { c["tokens"]["vocab_size"] = int64_t{1} << 40; });
  check_refused("a size of 0", [](io::json& c) { c["attention"]["num_heads"] = 0; });
  check_refused("a size of 0", [](io::json& c) { c["tokens"].erase("vocab_size"); });
  check_refused("'config.tokens.bos_id' must be an integer in range",
                [](io::json& c) { c["tokens"]["bos_id"] = 1LL << 40; });
  check_refused("'config.norm.epsilon' must be a number", [](io::json& c) { c["norm"]["epsilon"] = 1e300; });
  check_refused("'config.causal' must be true or false", [](io::json& c) { c["causal"] = 1; });
  check_refused("'config.mlp' must be an object", [](io::json& c) { c["mlp"] = "gated"; });
  check_refused(
      "'config.mlp.activation' is 'mish', which this libft does not know",
      [](io::json& c) { c["mlp"]["activation"] = "mish"; }, FT_ERROR_UNSUPPORTED);
  check_refused("another number of layers", [](io::json& c) { c["num_layers"] = 3; });
  check_refused("another number of layers", [](io::json& c) {
    c["causal"] = true;
    c.erase("layers");
  });
  check_refused("too many layers", [](io::json& c) { c["num_layers"] = 1 << 20; });
  check_refused("frequencies that are not there", [](io::json& c) { c["layers"][0]["rotary"] = 2; });
  check_refused("more frequencies than a head turns", [](io::json& c) { c["attention"]["head_dim"] = 2; });
  check_refused("'config.layers' must be a list", [](io::json& c) { c["layers"] = 1; });
  check_refused("'config.positions.rotary.inverse_frequency' must be a list",
                [](io::json& c) { c["positions"]["rotary"][0]["inverse_frequency"] = 1; });
  check_refused("slopes than heads", [](io::json& c) { c["positions"]["alibi_slopes"].push_back(1); });
}

TEST(a_kept_encoder_is_not_believed) {
  const auto refused = [](const char* text, const std::function<void(io::json&)>& change) {
    check_refused(text, [&](io::json& c) {
      c["is_encoder_decoder"] = true;
      c["tokens"]["encoder_vocab_size"] = 9;
      for (const char* key : {"hidden_size", "num_layers", "attention", "mlp"}) c["encoder"][key] = c[key];
      change(c);
    });
  };
  refused("an encoder without a vocabulary", [](io::json& c) { c["tokens"]["encoder_vocab_size"] = 0; });
  refused("encoder has a size of 0", [](io::json& c) { c["encoder"]["attention"]["num_heads"] = 0; });
  refused("encoder has heads that do not share", [](io::json& c) { c["encoder"]["attention"]["num_heads"] = 3; });
  refused("encoder has too many layers", [](io::json& c) { c["encoder"]["num_layers"] = 1 << 20; });
  refused("an encoder of another hidden_size", [](io::json& c) { c["encoder"]["hidden_size"] = 16; });
}

}  // namespace
