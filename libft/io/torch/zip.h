// ZIP archives whose entries are stored, not compressed (APPNOTE.TXT 6.3.10;
// https://www.iana.org/assignments/media-types/ application/zip): what torch.save writes. The tensors of such a file
// can be mapped like any others.
//
//   local header    "PK\3\4", 26 bytes, name, extra; the data follow
//   directory       for each entry "PK\1\2", 42 bytes, name, extra, comment: sizes and the local header's offset
//   zip64 end       "PK\6\6", and its locator "PK\6\7", where a size or offset passes 32 bits
//   end             "PK\5\6", 18 bytes, a comment of at most 65,535 bytes
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/files/mapped_file.h"

namespace ft::io {

struct zip_entry {
  std::string_view name;  // in the file
  uint64_t offset = 0;    // of its data in the file
  uint64_t size = 0;
};

// The entries in the directory's order. Every offset and length is checked against the file. Throws ft::error naming
// file, entry and fault: FT_ERROR_CHECKPOINT, or FT_ERROR_UNSUPPORTED for what the format knows and libft does not
// (compressed, encrypted or split archives).
std::vector<zip_entry> read_zip(const mapped_file& file);

// Whether the file begins as an archive does.
bool is_zip(const mapped_file& file);

}  // namespace ft::io
