// What the tests of config maps do with texts of config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "archs/model_fixture.h"
#include "check.h"

namespace ft::test {

// The text with one key's value replaced, or a key added.
inline std::string with(const std::string& config, const std::string& key, const std::string& value) {
  io::json_ptr tree = io::parse_json(config, "config.json");
  (*tree)[key] = io::json::parse(value);
  return tree->dump();
}

inline arch::weight_table table_of(const std::string& config) {
  const auto source = checkpoint_builder(config).open();
  const arch::family& family = arch::family_of(*source);
  return family.weights(family.config(*source), source->format());
}

inline bool has(const arch::weight_table& table, const std::string& name) {
  for (const arch::weight_spec& spec : table)
    if (spec.name == name) return true;
  return false;
}

inline const arch::weight_spec& find(const arch::weight_table& table, const std::string& name) {
  for (const arch::weight_spec& spec : table)
    if (spec.name == name) return spec;
  throw failure("the table has no " + name);
}

}  // namespace ft::test
