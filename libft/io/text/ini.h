// INI files, as Python's configparser writes them: the configuration of FasterTransformer's checkpoint folders.
//
//   [section]
//   key = value        or key: value; keys are lower-cased, as configparser does
//   # a comment        or ; a comment, on a line of its own
//
// A value is typed by its look, so that the readers of JSON configurations serve here too: 12 is an integer, 1e-05 a
// number, True and False (of any case) booleans, None null, and everything else a string.
#pragma once

#include <string>
#include <string_view>

#include "io/text/json.h"

namespace ft::io {

// {"section": {"key": value, ...}, ...}. Throws ft::error (FT_ERROR_CHECKPOINT) naming `file` and the line for what is
// no INI: text before the first section, a line without '=' or ':', continued values, sections and keys that come
// twice.
json_ptr parse_ini(std::string_view text, const std::string& file);

}  // namespace ft::io
