#include "arch/config/config_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "arch/config/config_check.h"
#include "arch/config/config_fields.h"
#include "arch/config/config_names.h"
#include "arch/config/config_put.h"
#include "core/status.h"
#include "io/text/printable.h"

namespace ft::arch {
namespace {

using io::json;

// The shape of a fault in a value: which file and key, and what was expected.
struct place {
  const std::string& file;
  std::string key;

  [[noreturn]] void refuse(const char* expected) const {
    fail(FT_ERROR_CHECKPOINT, file, ": '", io::printable(key), "' must be ", expected);
  }
};

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
  const std::optional<T> found = named<T>(text);
  if (!found)
    fail(FT_ERROR_UNSUPPORTED, at.file, ": '", io::printable(at.key), "' is '", io::printable(text),
         "', which this libft does not know");
  value = *found;
}

template <class T>
void get(const json& from, std::vector<T>& values, const place& at);
template <has_fields T>
void get(const json& from, T& value, const place& at) {
  if (!from.is_object()) at.refuse("an object");
  visit_fields(value, [&](const char* name, auto& field) {
    const auto found = from.find(name);
    if (found != from.end()) get(*found, field, {at.file, cat(at.key, ".", name)});
  });
}
template <class T>
void get(const json& from, std::vector<T>& values, const place& at) {
  if (!from.is_array()) at.refuse("a list");
  values.clear();
  for (const json& item : from) get(item, values.emplace_back(), at);
}

}  // namespace

io::json_ptr config_to_json(const model_config& config) {
  io::json_ptr tree = io::make_json();
  put_json(*tree, config);
  return tree;
}

model_config config_from_json(const io::json_reader& reader) {
  model_config config;
  get(reader.value(), config, {reader.file(), "config"});
  check_config(config, reader.file());
  return config;
}

}  // namespace ft::arch
