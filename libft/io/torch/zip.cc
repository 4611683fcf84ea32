// Reads the directory at the archive's end; an entry's data begin behind its local header.
#include "io/torch/zip.h"

#include <algorithm>
#include <unordered_set>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr uint64_t end_bytes = 22, locator_bytes = 20, zip64_end_bytes = 56;
constexpr uint64_t directory_bytes = 46, local_bytes = 30;
constexpr uint64_t max_comment_bytes = 65535;
constexpr uint32_t in_zip64 = 0xFFFFFFFF;

class zip_reader {
 public:
  explicit zip_reader(const mapped_file& file) : file_(file) {}

  std::vector<zip_entry> read() {
    find_directory();
    std::vector<zip_entry> entries;
    std::unordered_set<std::string_view> names;
    // Whatever number of entries is claimed, they must fit in the directory's bytes.
    if (count_ > (directory_end_ - directory_) / directory_bytes)
      fault("its directory of ", directory_end_ - directory_, " bytes cannot hold ", count_, " entries");
    entries.reserve(count_);
    uint64_t at = directory_;
    for (uint64_t i = 0; i < count_; ++i) {
      const zip_entry& e = entries.emplace_back(read_entry(at));
      if (!names.insert(e.name).second) fault("the entry '", printable(e.name), "' is there twice");
    }
    return entries;
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_.path(), ": ", args...);
  }

  // The little-endian number at `at`, which the caller has seen to lie in the file.
  template <class T>
  T number(uint64_t at) const {
    T value = 0;
    for (size_t i = sizeof(T); i-- > 0;) value = static_cast<T>(value << 8 | static_cast<T>(file_.data()[at + i]));
    return value;
  }

  bool marked(uint64_t at, std::string_view mark) const { return file_.text().substr(at, mark.size()) == mark; }

  void find_directory() {
    const uint64_t size = file_.size();
    if (size < end_bytes) fault("is no zip archive: it has only ", size, " bytes");
    const uint64_t first = size - std::min(size, end_bytes + max_comment_bytes);
    uint64_t end = size - end_bytes;
    while (!marked(end, "PK\5\6") || end + end_bytes + number<uint16_t>(end + 20) != size) {
      if (end == first) fault("is no zip archive, or is truncated: it has no end record");
      --end;
    }
    if (number<uint16_t>(end + 4) || number<uint16_t>(end + 6)) refuse_split();
    count_ = number<uint16_t>(end + 10);
    uint64_t bytes = number<uint32_t>(end + 12);
    directory_ = number<uint32_t>(end + 16);
    if (end >= locator_bytes && marked(end - locator_bytes, "PK\6\7")) {
      const uint64_t at = number<uint64_t>(end - locator_bytes + 8);
      if (size < zip64_end_bytes || at > size - zip64_end_bytes || !marked(at, std::string_view("PK\6\6")))
        fault("its zip64 end record is not where its locator says");
      if (number<uint32_t>(at + 16) || number<uint32_t>(at + 20)) refuse_split();
      count_ = number<uint64_t>(at + 32);
      bytes = number<uint64_t>(at + 40);
      directory_ = number<uint64_t>(at + 48);
      end = at;
    }
    if (directory_ > end || bytes > end - directory_)
      fault("its directory (", bytes, " bytes at ", directory_, ") does not lie before its end record at ", end);
    directory_end_ = directory_ + bytes;
  }

  [[noreturn]] void refuse_split() const {
    fail(FT_ERROR_UNSUPPORTED, file_.path(), ": an archive split over several files is not supported");
  }

  // The entry at `at`, which moves on to the next.
  zip_entry read_entry(uint64_t& at) const {
    if (directory_end_ - at < directory_bytes || !marked(at, std::string_view("PK\1\2")))
      fault("its directory ends or is damaged at byte ", at);
    const uint64_t name_bytes = number<uint16_t>(at + 28), extra_bytes = number<uint16_t>(at + 30);
    const uint64_t variable = name_bytes + extra_bytes + number<uint16_t>(at + 32);
    if (directory_end_ - at - directory_bytes < variable) fault("its directory is cut at byte ", at);
    zip_entry e;
    e.name = file_.text().substr(at + directory_bytes, name_bytes);
    if (!is_name(e.name)) fault("an entry's name is no UTF-8 text: '", printable(e.name), "'");
    const uint16_t flags = number<uint16_t>(at + 8), method = number<uint16_t>(at + 10);
    uint64_t compressed = number<uint32_t>(at + 20), local = number<uint32_t>(at + 42);
    e.size = number<uint32_t>(at + 24);
    read_zip64(at + directory_bytes + name_bytes, extra_bytes, e, compressed, local);
    if (flags & 1) fail(FT_ERROR_UNSUPPORTED, file_.path(), ": entry '", printable(e.name), "': is encrypted");
    if (method != 0)
      fail(FT_ERROR_UNSUPPORTED, file_.path(), ": entry '", printable(e.name),
           "': is compressed, and libft maps files as they are: load it with torch and save it again with torch.save");
    if (compressed != e.size)
      fault("entry '", printable(e.name), "': is stored in ", compressed, " bytes, but has ", e.size);
    e.offset = data_offset(e, local);
    at += directory_bytes + variable;
    return e;
  }

  // The extra field 0x0001 holds, in this order, those of the three that did not fit in 32 bits.
  void read_zip64(uint64_t at, uint64_t bytes, zip_entry& e, uint64_t& compressed, uint64_t& local) const {
    for (const uint64_t end = at + bytes; end - at >= 4;) {
      const uint64_t kind = number<uint16_t>(at), length = number<uint16_t>(at + 2);
      at += 4;
      if (length > end - at) fault("entry '", printable(e.name), "': its extra field is cut");
      if (kind == 1) {
        uint64_t field = at;
        for (uint64_t* value : {&e.size, &compressed, &local}) {
          if (*value != in_zip64) continue;
          if (at + length - field < 8) fault("entry '", printable(e.name), "': its zip64 field is cut");
          *value = number<uint64_t>(field);
          field += 8;
        }
      }
      at += length;
    }
  }

  uint64_t data_offset(const zip_entry& e, uint64_t local) const {
    if (local > directory_ || directory_ - local < local_bytes || !marked(local, std::string_view("PK\3\4")))
      fault("entry '", printable(e.name), "': has no local header at byte ", local);
    const uint64_t header = local_bytes + number<uint16_t>(local + 26) + number<uint16_t>(local + 28);
    const uint64_t room = directory_ - local;
    if (header > room || e.size > room - header)
      fault("entry '", printable(e.name), "': its ", e.size, " bytes do not lie before the directory");
    return local + header;
  }

  const mapped_file& file_;
  uint64_t directory_ = 0, directory_end_ = 0, count_ = 0;
};

}  // namespace

std::vector<zip_entry> read_zip(const mapped_file& file) { return zip_reader(file).read(); }

bool is_zip(const mapped_file& file) { return file.text().starts_with("PK\3\4"); }

}  // namespace ft::io
