#include "arch/config/config_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "arch/config/config_fields.h"
#include "core/status.h"
#include "io/text/printable.h"

namespace ft::arch {
namespace {

using io::json;

// What enumerators are called in a manifest, in their order.
constexpr std::string_view names_of(head_kind, size_t i) {
  constexpr std::string_view names[] = {"none", "causal_lm", "masked_lm", "sequence_classification",
                                        "token_classification"};
  return i < std::size(names) ? names[i] : std::string_view();
}
constexpr std::string_view names_of(activation_kind, size_t i) {
  constexpr std::string_view names[] = {"none", "relu", "gelu", "gelu_tanh", "silu", "tanh"};
  return i < std::size(names) ? names[i] : std::string_view();
}
constexpr std::string_view names_of(norm_kind, size_t i) {
  constexpr std::string_view names[] = {"layer", "rms"};
  return i < std::size(names) ? names[i] : std::string_view();
}
constexpr std::string_view names_of(block_kind, size_t i) {
  constexpr std::string_view names[] = {"pre_norm", "sandwich", "parallel", "post_norm", "normed_residual"};
  return i < std::size(names) ? names[i] : std::string_view();
}
constexpr std::string_view names_of(rotary_style, size_t i) {
  constexpr std::string_view names[] = {"half", "interleaved"};
  return i < std::size(names) ? names[i] : std::string_view();
}
constexpr std::string_view names_of(pool_kind, size_t i) {
  constexpr std::string_view names[] = {"mean", "first", "last", "max"};
  return i < std::size(names) ? names[i] : std::string_view();
}

// The shape of a fault in a value: which file and key, and what was expected.
struct place {
  const std::string& file;
  std::string key;

  [[noreturn]] void refuse(const char* expected) const {
    fail(FT_ERROR_CHECKPOINT, file, ": '", io::printable(key), "' must be ", expected);
  }
};

void put(json& out, const std::string& value) { out = value; }
void put(json& out, bool value) { out = value; }
template <class T>
  requires std::is_arithmetic_v<T>
void put(json& out, T value) {
  out = value;
}
template <class T>
  requires std::is_enum_v<T>
void put(json& out, T value) {
  const std::string_view name = names_of(value, static_cast<size_t>(value));
  FT_CHECK(!name.empty());
  out = name;
}
void put(json& out, const layer_config& value) {
  out = json::value_t::object;
  visit_layer_fields(value, [&](const char* name, const auto& field) { put(out[name], field); });
}
template <class T>
void put(json& out, const std::vector<T>& values);
void put(json& out, const rotary_config& value) {
  out = json::value_t::object;
  visit_rotary_fields(value, [&](const char* name, const auto& field) { put(out[name], field); });
}
template <class T>
void put(json& out, const std::vector<T>& values) {
  out = json::value_t::array;
  for (const T& value : values) put(out.emplace_back(), value);
}

void get(const json& from, std::string& value, const place& at) {
  if (!from.is_string()) at.refuse("a string");
  value = from.get_ref<const std::string&>();
}
void get(const json& from, bool& value, const place& at) {
  if (!from.is_boolean()) at.refuse("true or false");
  value = from.get<bool>();
}
template <class T>
  requires std::is_floating_point_v<T>
void get(const json& from, T& value, const place& at) {
  if (!from.is_number() || !(std::abs(from.get<double>()) <= std::numeric_limits<T>::max())) at.refuse("a number");
  value = static_cast<T>(from.get<double>());
}
template <class T>
  requires std::is_integral_v<T>
void get(const json& from, T& value, const place& at) {
  const bool whole = from.is_number_integer() && !(from.is_number_unsigned() && from.get<uint64_t>() > INT64_MAX);
  if (!whole || !std::in_range<T>(from.get<int64_t>())) at.refuse("an integer in range");
  value = static_cast<T>(from.get<int64_t>());
}
template <class T>
  requires std::is_enum_v<T>
void get(const json& from, T& value, const place& at) {
  std::string text;
  get(from, text, at);
  for (size_t i = 0; !names_of(value, i).empty(); ++i)
    if (names_of(value, i) == text) {
      value = static_cast<T>(i);
      return;
    }
  fail(FT_ERROR_UNSUPPORTED, at.file, ": '", io::printable(at.key), "' is '", io::printable(text),
       "', which this libft does not know");
}

template <class T>
void get(const json& from, std::vector<T>& values, const place& at);
void get(const json& from, layer_config& value, const place& at);
void get(const json& from, rotary_config& value, const place& at);
template <class T, class Fields>
void get_fields(const json& from, T& value, const place& at, Fields&& visit_fields) {
  if (!from.is_object()) at.refuse("an object");
  visit_fields(value, [&](const char* name, auto& field) {
    const auto found = from.find(name);
    if (found != from.end()) get(*found, field, {at.file, cat(at.key, ".", name)});
  });
}
void get(const json& from, layer_config& value, const place& at) {
  get_fields(from, value, at, [](auto& c, auto&& visit) { visit_layer_fields(c, visit); });
}
void get(const json& from, rotary_config& value, const place& at) {
  get_fields(from, value, at, [](auto& c, auto&& visit) { visit_rotary_fields(c, visit); });
}
template <class T>
void get(const json& from, std::vector<T>& values, const place& at) {
  if (!from.is_array()) at.refuse("a list");
  values.clear();
  for (const json& item : from) get(item, values.emplace_back(), at);
}

// What the recipes divide by, index with, or make vectors of. A manifest may say anything.
void check(const model_config& c, const std::string& file) {
  constexpr int64_t largest = 1 << 30, most_layers = 1 << 14;
  const auto refuse = [&](const char* what) { fail(FT_ERROR_CHECKPOINT, file, ": the configuration has ", what); };
  visit_model_fields(c, [&](const char* name, const auto& field) {
    if constexpr (std::is_same_v<decltype(field), const int64_t&>)
      if (field < 0 || field > largest) fail(FT_ERROR_CHECKPOINT, file, ": '", name, "' is ", field, ", out of range");
  });
  if (c.vocab_size < 1 || c.hidden_size < 1 || c.num_heads < 1 || c.num_kv_heads < 1 || c.head_dim < 1 ||
      c.intermediate_size < 1)
    refuse("a size of 0");
  if (c.num_layers > most_layers) refuse("too many layers");
  if (c.num_heads % c.num_kv_heads != 0) refuse("heads that do not share their keys evenly");
  if (c.num_heads > largest / c.head_dim || c.head_dim > 4096) refuse("heads that are too large");
  if (!c.layers.empty() && c.layers.size() != static_cast<size_t>(c.num_layers))
    refuse("another number of layers than num_layers");
  for (const rotary_config& r : c.rotary)
    if (2 * r.inverse_frequency.size() > static_cast<size_t>(c.head_dim)) refuse("more frequencies than a head turns");
  for (const layer_config& layer : c.layers) {
    if (layer.window < 0) refuse("a negative window");
    if (layer.rotary < 0 || (!c.rotary.empty() && static_cast<size_t>(layer.rotary) >= c.rotary.size()))
      refuse("a layer with frequencies that are not there");
  }
  if (!c.alibi_slopes.empty() && c.alibi_slopes.size() != static_cast<size_t>(c.num_heads))
    refuse("another number of ALiBi slopes than heads");
  if (c.is_encoder_decoder && (c.num_encoder_heads < 1 || c.encoder_intermediate_size < 1 || c.encoder_vocab_size < 1))
    refuse("an encoder with a size of 0");
  if (c.num_encoder_layers > most_layers) refuse("too many layers");
  if (c.label_names.size() > static_cast<size_t>(c.num_labels)) refuse("more names than labels");
}

}  // namespace

io::json_ptr config_to_json(const model_config& config) {
  io::json_ptr tree = io::make_json();
  visit_model_fields(config, [&](const char* name, const auto& field) { put((*tree)[name], field); });
  return tree;
}

model_config config_from_json(const io::json_reader& reader) {
  model_config config;
  visit_model_fields(config, [&](const char* name, auto& field) {
    if (const json* found = reader.find(name)) get(*found, field, {reader.file(), cat("config.", name)});
  });
  check(config, reader.file());
  return config;
}

}  // namespace ft::arch
