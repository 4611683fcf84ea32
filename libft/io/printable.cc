// A broken file may hold anything where a name should be: megabytes, control characters, no UTF-8.
#include "io/printable.h"

namespace ft::io {

std::string printable(std::string_view text, size_t limit) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (char c : text.substr(0, limit)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
  }
  if (text.size() > limit) out += "...";
  return out;
}

}  // namespace ft::io
