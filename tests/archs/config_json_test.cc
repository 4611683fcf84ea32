// A configuration kept in a manifest: every field there, to the bit, and nothing believed when it is read.
#include "arch/config/config_json.h"

#include <nlohmann/json.hpp>
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

TEST(no_field_of_a_configuration_is_forgotten) {
  size_t fields = 0;
  const auto count = [&](const char*, const auto&) { ++fields; };
  visit_model_fields(std::as_const(*std::make_unique<model_config>()), count);
  CHECK_EQ(fields, field_count<model_config>());
  fields = 0;
  const layer_config layer;
  visit_layer_fields(layer, count);
  CHECK_EQ(fields, field_count<layer_config>());
  fields = 0;
  const rotary_config rotary;
  visit_rotary_fields(rotary, count);
  CHECK_EQ(fields, field_count<rotary_config>());
}

model_config some_config() {
  model_config c;
  c.family = "llama";
  c.vocab_size = 7;
  c.hidden_size = 8;
  c.num_layers = 2;
  c.num_heads = c.num_kv_heads = 2;
  c.head_dim = 4;
  c.intermediate_size = 5;
  c.activation = activation_kind::gelu_tanh;
  c.block = block_kind::normed_residual;
  c.norm_epsilon = 1.0f / 3;
  c.layers = {{.window = 3, .rotary = 1}, {.attention_scale = 0.1f}};
  c.rotary = {{.inverse_frequency = {1, 0.1f}, .style = rotary_style::interleaved, .theta = 1e-300}, {}};
  c.stop_token_ids = {-1, 2147483647};
  c.label_names = {"a \"quoted\" name"};
  c.num_labels = 1;
  return c;
}

io::json_ptr again(const model_config& config) {
  return io::parse_json(config_to_json(config)->dump(), "manifest.json");
}

TEST(a_configuration_comes_back_to_the_bit) {
  const io::json_ptr kept = again(some_config());
  const model_config back = config_from_json(io::json_reader(*kept, "manifest.json"));
  CHECK(*again(back) == *kept);
  CHECK(back.norm_epsilon == 1.0f / 3 && back.layers[1].attention_scale == 0.1f);
  CHECK(back.rotary[0].theta == 1e-300 && back.rotary[0].inverse_frequency[1] == 0.1f);
  CHECK(back.block == block_kind::normed_residual && back.rotary[0].style == rotary_style::interleaved);
  CHECK(back.label_names == some_config().label_names && back.stop_token_ids == some_config().stop_token_ids);
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
  check_refused("out of range", [](io::json& c) { c["vocab_size"] = int64_t{1} << 40; });
  check_refused("a size of 0", [](io::json& c) { c["num_heads"] = 0; });
  check_refused("'config.bos_token_id' must be an integer in range",
                [](io::json& c) { c["bos_token_id"] = 1LL << 40; });
  check_refused("'config.norm_epsilon' must be a number", [](io::json& c) { c["norm_epsilon"] = 1e300; });
  check_refused("'config.causal' must be true or false", [](io::json& c) { c["causal"] = 1; });
  check_refused(
      "'config.activation' is 'mish', which this libft does not know", [](io::json& c) { c["activation"] = "mish"; },
      FT_ERROR_UNSUPPORTED);
  check_refused("another number of layers", [](io::json& c) { c["num_layers"] = 3; });
  check_refused("too many layers", [](io::json& c) { c["num_layers"] = 1 << 20; });
  check_refused("frequencies that are not there", [](io::json& c) { c["layers"][0]["rotary"] = 2; });
  check_refused("more frequencies than a head turns", [](io::json& c) { c["head_dim"] = 2; });
  check_refused("'config.layers' must be a list", [](io::json& c) { c["layers"] = 1; });
  check_refused("'config.rotary.inverse_frequency' must be a list",
                [](io::json& c) { c["rotary"][0]["inverse_frequency"] = 1; });
  check_refused("slopes than heads", [](io::json& c) { c["alibi_slopes"].push_back(1); });
  check_refused("an encoder with a size of 0", [](io::json& c) { c["is_encoder_decoder"] = true; });
}

}  // namespace
