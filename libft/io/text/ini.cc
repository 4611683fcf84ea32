// One pass over the lines; nothing is guessed and nothing skipped.
#include "io/text/ini.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr size_t max_line_bytes = 65536;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r";
  const size_t begin = text.find_first_not_of(blanks);
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::string lowered(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// The whole text as a number of this type.
template <class T>
bool reads_as(std::string_view text, T& value) {
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  return fault == std::errc() && end == text.data() + text.size();
}

json typed(std::string_view text) {
  if (int64_t integer = 0; reads_as(text, integer)) return integer;
  if (double number = 0; reads_as(text, number) && std::isfinite(number)) return number;
  const std::string word = lowered(text);
  if (word == "true") return true;
  if (word == "false") return false;
  if (word == "none") return nullptr;
  return std::string(text);
}

class ini_parser {
 public:
  ini_parser(const std::string& file, json& root) : file_(file), root_(root) {}

  void line(std::string_view raw) {
    ++number_;
    if (raw.size() > max_line_bytes) fault("has ", raw.size(), " bytes; at most ", max_line_bytes, " are read");
    const std::string_view text = trimmed(raw);
    if (text.empty() || text.front() == '#' || text.front() == ';') return;
    if (!is_name(text)) fault("is no UTF-8 text");
    if (raw.front() == ' ' || raw.front() == '\t') fault("begins with a blank: values over several lines are not read");
    if (text.front() == '[')
      open_section(text);
    else
      add_value(text);
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_, ": line ", number_, " ", args...);
  }

  void open_section(std::string_view text) {
    if (text.back() != ']' || text.size() < 3) fault("is no section header: ", printable(text));
    const std::string name(text.substr(1, text.size() - 2));
    if (root_.contains(name)) fault("opens the section [", printable(name), "] a second time");
    section_ = &(root_[name] = json::value_t::object);
  }

  void add_value(std::string_view text) {
    const size_t sign = text.find_first_of("=:");
    if (sign == text.npos) fault("is neither a section header nor 'key = value': ", printable(text));
    const std::string key = lowered(trimmed(text.substr(0, sign)));
    if (key.empty()) fault("has no key before its '", text[sign], "'");
    if (!section_) fault("stands before the first section header");
    if (section_->contains(key)) fault("gives the key '", printable(key), "' a second time");
    (*section_)[key] = typed(trimmed(text.substr(sign + 1)));
  }

  const std::string& file_;
  json& root_;
  json* section_ = nullptr;  // an element of root_, a std::map: it stays where it is
  size_t number_ = 0;
};

}  // namespace

json_ptr parse_ini(std::string_view text, const std::string& file) {
  json_ptr root = make_json();
  ini_parser parser(file, *root);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    parser.line(text.substr(at, end - at));
    at = end + 1;
  }
  return root;
}

}  // namespace ft::io
