// A broken file may hold anything where a name should be: megabytes, control characters, no UTF-8.
#include "io/text/printable.h"

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

// Bytes of the UTF-8 sequence that begins with `lead`; 0 when none does.
static size_t sequence_length(unsigned lead) {
  if (lead == 0) return 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) return 3;
  return lead < 0xf5 ? 4 : 0;
}

// By table 3-7 of the Unicode standard: the second byte's range rules out overlong forms, surrogates and the beyond.
bool is_name(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u; };
    const unsigned lead = byte(0);
    const size_t length = sequence_length(lead);
    if (length == 0) return false;
    const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (length > 1 && (byte(1) < low || byte(1) > high)) return false;
    for (size_t k = 2; k < length; ++k)
      if (byte(k) < 0x80 || byte(k) > 0xbf) return false;
    i += length;
  }
  return true;
}

}  // namespace ft::io
