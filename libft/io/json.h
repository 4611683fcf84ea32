// JSON for configurations, by nlohmann/json, with faults reported as checkpoint errors that name the file.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ft::io {

using json = nlohmann::json;

// Parses `text`; `file` is named in errors. Nesting deeper than 64 and duplicate keys are refused.
json parse_json(std::string_view text, const std::string& file);

// A configuration object, for reading with defaults: wrong types are errors that name the file and the key.
// A key that is absent or null is "not given".
class json_reader {
 public:
  json_reader(const json& object, std::string file);

  bool has(std::string_view key) const;
  int64_t integer(std::string_view key) const;  // must be given
  int64_t integer(std::string_view key, int64_t otherwise) const;
  double number(std::string_view key) const;
  double number(std::string_view key, double otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string string(std::string_view key) const;
  std::string string(std::string_view key, std::string_view otherwise) const;
  std::optional<json_reader> object(std::string_view key) const;
  const json* find(std::string_view key) const;  // null when not given
  const json& value() const { return *object_; }
  const std::string& file() const { return file_; }

 private:
  const json* object_;
  std::string file_;
};

}  // namespace ft::io
