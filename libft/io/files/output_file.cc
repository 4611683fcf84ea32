// POSIX calls, since what std::filesystem removes or renames it may end the process over when memory has run out.
#include "io/files/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"

namespace ft::io {
namespace {

[[noreturn]] void fail_at(const std::string& path, const char* what) {
  const int code = errno;
  fail(FT_ERROR_CHECKPOINT, path, ": ", what, ": ", std::generic_category().message(code));
}

bool is_folder(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_there(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

// A name beside `path` that nothing has yet.
std::string name_beside(const std::string& path, const char* purpose) {
  std::string pattern = cat(path, ".", purpose, "-XXXXXX");
  if (!::mkdtemp(pattern.data())) fail_at(pattern, "cannot be made");
  return pattern;
}

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // a file system that cannot has nothing to lose
  ::fsync(descriptor);
  ::close(descriptor);
}

void remove_folder(const std::string& path, const std::vector<std::string>& files) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (const std::string& file : files) ::unlinkat(descriptor, file.c_str(), 0);
  if (descriptor >= 0) ::close(descriptor);
  ::rmdir(path.c_str());
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

output_file::output_file(std::string path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fault("cannot be created");
}

output_file::~output_file() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void output_file::fault(const char* what) const { fail_at(path_, what); }

void output_file::write(const void* data, uint64_t bytes) {
  constexpr uint64_t most = 1 << 30;  // Linux writes no more than 2 GiB at once
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t done = ::write(descriptor_, at, static_cast<size_t>(std::min(bytes, most)));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fault("cannot be written");
    at += done;
    bytes -= static_cast<uint64_t>(done);
    written_ += static_cast<uint64_t>(done);
  }
}

void output_file::close() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fault("cannot be written");
  const int result = ::close(std::exchange(descriptor_, -1));
  if (result != 0) fault("cannot be written");
}

output_folder::output_folder(std::string path, std::string_view replaceable) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  if (path_.empty()) fail(FT_ERROR_INVALID_ARGUMENT, "the destination is empty");
  if (is_there(path_)) {
    if (replaceable.empty())
      fail(FT_ERROR_INVALID_ARGUMENT, path_, ": exists already; remove it, or allow it to be overwritten");
    if (!is_folder(path_) || !file_exists(join_path(path_, replaceable)))
      fail(FT_ERROR_INVALID_ARGUMENT, path_, ": is not overwritten: it is no folder with a ", replaceable,
           ", which libft would have written");
    replaces_ = true;
  }
  filled_ = name_beside(path_, "partial");
}

output_folder::~output_folder() {
  if (filled_.empty()) return;
  for (const std::string& file : files_) ::unlink(file.c_str());
  ::rmdir(filled_.c_str());
}

std::string output_folder::add(std::string_view file) {
  FT_CHECK(is_file_name(file));
  files_.push_back(join_path(filled_, file));
  return files_.back();
}

void output_folder::write(std::string_view file, std::string_view contents) {
  output_file out(add(file));
  out.write(contents.data(), contents.size());
  out.close();
}

// What takes memory comes first: from the first renaming on, nothing may run short.
void output_folder::commit() {
  const std::string parent = parent_of(path_);
  const std::vector<std::string> replaced = replaces_ ? entries_ending(path_, "") : std::vector<std::string>();
  ::chmod(filled_.c_str(), 0755);  // mkdtemp's is its owner's alone
  sync_folder(filled_);
  std::string old;
  if (replaces_) {
    // An empty folder may be renamed onto: the old one goes there first, so that a moment's fault loses neither.
    old = name_beside(path_, "old");
    if (::rename(path_.c_str(), old.c_str()) != 0) {
      ::rmdir(old.c_str());
      fail_at(path_, "cannot be moved away");
    }
  }
  if (::rename(filled_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    if (replaces_) ::rename(old.c_str(), path_.c_str());
    errno = code;
    fail_at(path_, "cannot be made");
  }
  filled_.clear();
  sync_folder(parent);
  if (replaces_) remove_folder(old, replaced);
}

}  // namespace ft::io
