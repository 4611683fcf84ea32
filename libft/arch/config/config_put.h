// A field of a configuration as JSON. Values are assigned in place: nlohmann's temporaries would allocate when
// destroyed (io/text/json.h says why).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "arch/config/config_fields.h"
#include "arch/config/config_names.h"

namespace ft::arch {

inline void put_json(io::json& out, const std::string& value) { out = value; }

template <class T>
  requires std::is_arithmetic_v<T>
void put_json(io::json& out, T value) {
  out = value;
}

template <class T>
  requires std::is_enum_v<T>
void put_json(io::json& out, T value) {
  out = name_of(value);
}

template <class T>
void put_json(io::json& out, const std::vector<T>& values);

template <has_fields T>
void put_json(io::json& out, const T& value) {
  out = io::json::value_t::object;
  visit_fields(value, [&](const char* name, const auto& field) { put_json(out[name], field); });
}

template <class T>
void put_json(io::json& out, const std::vector<T>& values) {
  out = io::json::value_t::array;
  for (const T& value : values) put_json(out.emplace_back(), value);
}

}  // namespace ft::arch
