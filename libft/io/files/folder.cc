#include "io/files/folder.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/status.h"
#include "io/files/mapped_file.h"

namespace ft::io {
namespace {

namespace fs = std::filesystem;

constexpr size_t max_json_bytes = 100'000'000;

[[noreturn]] void fail_listing(const std::string& folder) {
  const int code = errno;
  fail(FT_ERROR_CHECKPOINT, folder, ": cannot be listed: ", std::generic_category().message(code));
}

}  // namespace

std::string join_path(const std::string& folder, std::string_view file) {
  return folder.ends_with("/") ? cat(folder, file) : cat(folder, "/", file);
}

bool file_exists(const std::string& path) {
  std::error_code fault;
  return fs::exists(path, fault);
}

// By POSIX: std::filesystem's iterator allocates in functions that must not throw, and so ends the process when memory
// has run out.
std::vector<std::string> entries_ending(const std::string& folder, std::string_view end) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
  if (!listing) fail_listing(folder);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(listing.get());
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && name.ends_with(end)) names.emplace_back(name);
  }
  if (errno) fail_listing(folder);
  std::sort(names.begin(), names.end());
  return names;
}

json_ptr read_json_file(const std::string& path) {
  const auto file = mapped_file::open(path);
  if (file->size() > max_json_bytes)
    fail(FT_ERROR_CHECKPOINT, path, ": has ", file->size(), " bytes; at most ", max_json_bytes, " are read as JSON");
  return parse_json(file->text(), path);
}

json_ptr read_json_object(const std::string& path) {
  json_ptr root = read_json_file(path);
  if (!root->is_object()) fail(FT_ERROR_CHECKPOINT, path, ": is no JSON object");
  return root;
}

bool is_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

}  // namespace ft::io
