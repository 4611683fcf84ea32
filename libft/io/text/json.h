// JSON for configurations, by nlohmann/json, with faults reported as checkpoint errors that name the file.
//
// nlohmann's destructor flattens a tree into a stack on the heap before freeing it. A destructor must not throw, so
// that allocation ends the process when memory has run out. A tree that libft keeps is therefore owned by a
// json_ptr, which frees it leaf by leaf and allocates nothing. Whoever builds a tree starts from make_json() and fills
// it by tree["key"] = value; initialiser lists of containers make temporaries with the same fault.
//
// Only the files that look into a tree include <nlohmann/json.hpp> itself: it is slow to compile.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ft::io {

using json = nlohmann::json;

struct json_deleter {
  void operator()(json* tree) const noexcept;
};
using json_ptr = std::unique_ptr<json, json_deleter>;

json_ptr make_json();  // an empty object

// Parses `text`; `file` is named in errors, with the byte at which the fault was seen. Refused beside what is no
// JSON (NaN, Infinity, comments, invalid UTF-8): nesting deeper than 64, and an object that has a key twice.
json_ptr parse_json(std::string_view text, const std::string& file);

// A configuration object, for reading with defaults: wrong types are errors that name the file and the key.
// A key that is absent or null is "not given". The reader views the tree and must not outlive it.
class json_reader {
 public:
  json_reader(const json& object, std::string file);

  bool has(std::string_view key) const { return find(key) != nullptr; }
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
  const json& require(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, const json& value, std::string_view expected) const;
  int64_t as_integer(std::string_view key, const json& value) const;
  double as_number(std::string_view key, const json& value) const;

  const json* object_;
  std::string file_;
  std::string path_;  // "rope_scaling." for a nested object, in messages
};

}  // namespace ft::io
