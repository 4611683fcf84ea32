// What the formats that are folders share: their entries, and the JSON files among them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/text/json.h"

namespace ft::io {

std::string join_path(const std::string& folder, std::string_view file);
bool file_exists(const std::string& path);

// Names of the folder's entries that end so, sorted. Throws ft::error (FT_ERROR_CHECKPOINT) when it cannot be listed.
std::vector<std::string> entries_ending(const std::string& folder, std::string_view end);

// Throws ft::error (FT_ERROR_CHECKPOINT) for what is no JSON, or more than a configuration can be.
json_ptr read_json_file(const std::string& path);
json_ptr read_json_object(const std::string& path);  // and it must be an object

// Whether `name` is that of a file in the same folder: no separators, not "." or "..".
bool is_file_name(std::string_view name);

}  // namespace ft::io
