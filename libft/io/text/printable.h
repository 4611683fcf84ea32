// Names and texts taken from a file, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace ft::io {

// ASCII as it is, every other byte as \xNN; cut after `limit` bytes of `text`, with "..." to say so.
std::string printable(std::string_view text, size_t limit = 160);

// Whether `text` is UTF-8 without a zero byte, as a name must be to pass through C strings and into other languages.
bool is_name(std::string_view text);

}  // namespace ft::io
