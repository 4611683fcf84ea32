// POSIX memory mapping. Pages come from the page cache when they are first read, so opening reads no tensor data.
#include "io/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/status.h"

namespace ft::io {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

struct descriptor {
  int number;
  ~descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

std::shared_ptr<const mapped_file> mapped_file::open(const std::string& path) {
  std::shared_ptr<mapped_file> file(new mapped_file(path));  // owned before there is a mapping to lose
  file->map();
  return file;
}

void mapped_file::map() {
  // A path with a zero byte would name another file to the system than to us.
  if (path_.find('\0') != path_.npos) fail(FT_ERROR_CHECKPOINT, path_.c_str(), ": a path cannot hold a zero byte");
  // O_NONBLOCK: a named pipe must be refused, not waited for.
  descriptor fd{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (fd.number < 0) fail(FT_ERROR_CHECKPOINT, path_, ": cannot be opened: ", reason(errno));
  struct stat info;
  if (::fstat(fd.number, &info) != 0) fail(FT_ERROR_CHECKPOINT, path_, ": cannot be examined: ", reason(errno));
  if (!S_ISREG(info.st_mode)) fail(FT_ERROR_CHECKPOINT, path_, ": is no regular file");
  if (info.st_size == 0) return;  // nothing to map; readers see no bytes
  if (static_cast<uintmax_t>(info.st_size) > PTRDIFF_MAX)
    fail(FT_ERROR_CHECKPOINT, path_, ": is too large to map on this machine");
  auto size = static_cast<size_t>(info.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.number, 0);
  if (data == MAP_FAILED) {
    const int code = errno;
    fail(code == ENOMEM ? FT_ERROR_OUT_OF_MEMORY : FT_ERROR_CHECKPOINT, path_, ": cannot be mapped: ", reason(code));
  }
  data_ = static_cast<const std::byte*>(data);
  size_ = size;
  mapped_ = true;
}

std::shared_ptr<const mapped_file> mapped_file::wrap(const void* data, size_t size, std::string name) {
  std::shared_ptr<mapped_file> file(new mapped_file(std::move(name)));
  file->data_ = static_cast<const std::byte*>(data);
  file->size_ = size;
  return file;
}

mapped_file::~mapped_file() {
  if (mapped_) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace ft::io
