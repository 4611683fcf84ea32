// How GGUF-quantised matrices lie in memory for the kernels of gemm/quantised.cc: still in the file's integers and
// scales, but interleaved so that a vector holds the same column of many rows and no sum goes across a vector.
//
// Rows (output features) go in panels of 16; a panel is a sequence of records that is read from one end to the other. A
// record is the scales of 1 or 8 blocks of 32 columns and then those blocks' integers:
//
//   scales    q4_0 q5_0 q8_0  1 block: f16 d[16]
//             q4_1 q5_1       1 block: f16 d[16], m[16]
//             q4_k q5_k       8 blocks: f16 d[16], m[16] (m = -dmin), and u8 scale[16], min[16] for each of them
//             q6_k            8 blocks: f16 d[16], and i8 scale[16] for each half block
//   integers  "vectors" of 64 bytes. Byte 4 r + j of group g (0 <= g < 8) belongs to row r, column 4 g + j: four
//   columns
//             of a row side by side are what the dot-product instructions take.
//               8 bits  8 vectors, group g each
//               4 bits  4 vectors: group v in the low nibbles, group v + 4 in the high ones
//               5 bits  as 4 bits, and 1 vector whose bit g is the fifth bit of group g
//               6 bits  as 4 bits, and 2 vectors: pair g % 4 of vector g / 4 is the top of group g
//
// Bits a weight (the file's in brackets): q4_0 4.5 (4.5), q4_1 5 (5), q5_0 5.5 (5.5), q5_1 6 (6), q8_0 8.5 (8.5),
// q4_k 4.625 (4.5), q5_k 5.625 (5.5), q6_k 6.5625 (6.5625). The last panel is filled up with rows of zeros.
#pragma once

#include <span>

#include "backends/cpu/packed.h"
#include "core/memory.h"

namespace ft::cpu {

inline constexpr int panel_rows = 16;
inline constexpr int quant_block = 32;  // columns that share an activation scale
inline constexpr int group_bytes = 64;  // 16 rows x 4 columns

struct panel_format {
  int bits;          // of an unsigned integer: 4, 5, 6 or 8
  int zero;          // subtracted from it
  bool has_min;      // whether a term without the integer is added
  int scale_blocks;  // blocks of 32 columns that one record of scales serves: 1, or 8 for the K types
  int scale_bytes;   // of such a record
  constexpr int block_bytes() const { return bits * panel_rows * quant_block / 8; }
  constexpr int record_bytes() const { return scale_bytes + scale_blocks * block_bytes(); }
};

constexpr panel_format format_of(dtype type) {
  switch (type) {
    case dtype::q4_0:
      return {4, 8, false, 1, 32};
    case dtype::q4_1:
      return {4, 0, true, 1, 64};
    case dtype::q5_0:
      return {5, 16, false, 1, 32};
    case dtype::q5_1:
      return {5, 0, true, 1, 64};
    case dtype::q4_k:
      return {4, 0, true, 8, 64 + 8 * 32};
    case dtype::q5_k:
      return {5, 0, true, 8, 64 + 8 * 32};
    case dtype::q6_k:
      return {6, 32, false, 8, 32 + 16 * 16};
    default:
      return {8, 128, false, 1, 32};  // q8_0
  }
}

// A quantised matrix in panels. The kernels derive from it and add multiply().
class quantised_weight : public cpu_packed_weight {
 public:
  // Stacks `parts`, which are of one format of blocks and one width (check_parts).
  quantised_weight(std::span<const stored_weight> parts, memory& from);

  void unpack_row(int64_t row, float* out) const override;

  int64_t panels() const { return (out_features + panel_rows - 1) / panel_rows; }
  int64_t blocks() const { return in_features / quant_block; }
  int64_t panel_bytes() const;
  const uint8_t* panel(int64_t index) const { return data_.as<const uint8_t>() + index * panel_bytes(); }

 private:
  void pack_rows(const uint8_t* rows, int64_t row_bytes, int64_t first, int64_t count);

  buffer data_;
};

}  // namespace ft::cpu
