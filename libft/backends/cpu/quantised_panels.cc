// Packs GGUF blocks into panels and reads single rows back; see the header for the layout.
#include "backends/cpu/quantised_panels.h"

#include <algorithm>
#include <cstring>

#include "core/half.h"
#include "ops/gguf_blocks.h"

namespace ft::cpu {
namespace {

constexpr int row_step = 4;  // bytes of one row in a vector

float half_at(const uint8_t* p) {
  f16 h;
  std::memcpy(&h, p, sizeof h);
  return to_float(h);
}

uint32_t word_at(const uint8_t* p) {
  uint32_t w;
  std::memcpy(&w, p, sizeof w);
  return w;
}

void put_word(uint8_t* p, uint32_t w) { std::memcpy(p, &w, sizeof w); }

// Each writer below takes 32 columns of one row; `to` is the row's place in the block's first vector.

// 16 bytes that hold columns 0-15 in their low nibbles and 16-31 in their high ones, which is how both the types of 32
// elements and the panels have them.
void put_nibbles(const uint8_t* pairs, uint8_t* to) {
  for (int v = 0; v < 4; ++v) put_word(to + v * group_bytes, word_at(pairs + v * row_step));
}

// The K types have column i of one block in the low nibble of byte i and that of another in the high one.
void put_nibbles_of_two(const uint8_t* nibbles, uint8_t* low_block, uint8_t* high_block) {
  uint8_t low[16], high[16];
  for (int i = 0; i < 16; ++i) {
    low[i] = static_cast<uint8_t>((nibbles[i] & 15) | nibbles[i + 16] << 4);
    high[i] = static_cast<uint8_t>(nibbles[i] >> 4 | (nibbles[i + 16] & 0xf0));
  }
  put_nibbles(low, low_block);
  put_nibbles(high, high_block);
}

// Fifth bits, column i's in bit i: every fourth bit goes to one byte.
void put_fifth_bits(uint32_t bits, uint8_t* to) {
  for (int j = 0; j < 4; ++j) {
    uint32_t x = bits >> j & 0x11111111;
    x = (x | x >> 3) & 0x03030303;
    x = (x | x >> 6) & 0x000f000f;
    to[4 * group_bytes + j] = static_cast<uint8_t>(x | x >> 12);
  }
}

// Fifth bits, column i's in bit `bit` of byte i.
void put_fifth_bits_of_bytes(const uint8_t* bytes, int bit, uint8_t* to) {
  uint32_t top = 0;
  for (int g = 0; g < 8; ++g) top |= (word_at(bytes + g * row_step) >> bit & 0x01010101) << g;
  put_word(to + 4 * group_bytes, top);
}

// Pairs of high bits, column i's from bit `bit` of byte i on.
void put_high_pairs(const uint8_t* bytes, int bit, uint8_t* to) {
  for (int v = 0; v < 2; ++v) {
    uint32_t top = 0;
    for (int g = 0; g < 4; ++g) top |= (word_at(bytes + (4 * v + g) * row_step) >> bit & 0x03030303) << (2 * g);
    put_word(to + (4 + v) * group_bytes, top);
  }
}

// One GGUF block of row `row` of a panel into the panel's record.
using record_packer = void (*)(const uint8_t* block, int row, uint8_t* record);

template <dtype type>
void pack_32(const uint8_t* block, int row, uint8_t* record) {
  constexpr panel_format format = format_of(type);
  uint8_t* to = record + format.scale_bytes + row * row_step;
  std::memcpy(record + 2 * row, block, 2);
  if constexpr (format.has_min) std::memcpy(record + 32 + 2 * row, block + 2, 2);
  block += format.has_min ? 4 : 2;
  if constexpr (format.bits == 8) {
    for (int g = 0; g < 8; ++g) put_word(to + g * group_bytes, word_at(block + g * row_step) ^ 0x80808080);
  } else {
    if constexpr (format.bits == 5) put_fifth_bits(word_at(block), to);
    put_nibbles(block + (format.bits == 5 ? 4 : 0), to);
  }
}

template <dtype type>
void pack_k(const uint8_t* block, int row, uint8_t* record) {
  constexpr panel_format format = format_of(type);
  std::memcpy(record + 2 * row, block, 2);
  std::memcpy(record + 32 + 2 * row, block + 2, 2);
  record[32 + 2 * row + 1] ^= 0x80;  // m = -dmin
  uint8_t scale[8], min[8];
  take_k_scales(block + 4, scale, min);
  for (int s = 0; s < 8; ++s) {
    record[64 + s * 32 + row] = scale[s];
    record[64 + s * 32 + panel_rows + row] = min[s];
  }
  const uint8_t* fifth = block + 16;
  const uint8_t* nibbles = fifth + (format.bits == 5 ? 32 : 0);
  uint8_t* to = record + format.scale_bytes + row * row_step;
  for (int b = 0; b < 8; ++b, to += format.block_bytes()) {
    if (b % 2 == 0) put_nibbles_of_two(nibbles + b / 2 * 32, to, to + format.block_bytes());
    if constexpr (format.bits == 5) put_fifth_bits_of_bytes(fifth, b, to);
  }
}

void pack_q6_k(const uint8_t* block, int row, uint8_t* record) {
  constexpr panel_format format = format_of(dtype::q6_k);
  std::memcpy(record + 2 * row, block + 208, 2);
  for (int s = 0; s < 16; ++s) record[32 + s * panel_rows + row] = block[192 + s];
  uint8_t* to = record + format.scale_bytes + row * row_step;
  constexpr int step = format.block_bytes();
  for (int half = 0; half < 2; ++half, to += 4 * step) {
    const uint8_t* nibbles = block + half * 64;
    put_nibbles_of_two(nibbles, to, to + 2 * step);
    put_nibbles_of_two(nibbles + 32, to + step, to + 3 * step);
    for (int b = 0; b < 4; ++b) put_high_pairs(block + 128 + half * 32, 2 * b, to + b * step);
  }
}

record_packer packer_of(dtype type) {
  switch (type) {
    case dtype::q4_0:
      return pack_32<dtype::q4_0>;
    case dtype::q4_1:
      return pack_32<dtype::q4_1>;
    case dtype::q5_0:
      return pack_32<dtype::q5_0>;
    case dtype::q5_1:
      return pack_32<dtype::q5_1>;
    case dtype::q4_k:
      return pack_k<dtype::q4_k>;
    case dtype::q5_k:
      return pack_k<dtype::q5_k>;
    case dtype::q6_k:
      return pack_q6_k;
    default:
      return pack_32<dtype::q8_0>;
  }
}

// One row's 32 integers of a block; `from` is its place in the first vector.
void unpack_integers(int bits, const uint8_t* from, uint8_t* quant) {
  for (int i = 0; i < 32; ++i) {
    const int group = i / 4, byte = i % 4;
    if (bits == 8) {
      quant[i] = from[group * group_bytes + byte];
      continue;
    }
    int q = from[group % 4 * group_bytes + byte] >> (group / 4 * 4) & 15;
    const uint8_t* top = from + 4 * group_bytes + byte;
    if (bits == 5) q |= (*top >> group & 1) << 4;
    if (bits == 6) q |= (top[group / 4 * group_bytes] >> (group % 4 * 2) & 3) << 4;
    quant[i] = static_cast<uint8_t>(q);
  }
}

// The scale and minimum of sub-block s of a record, for one row.
struct scale_and_min {
  float scale, min;
};

scale_and_min unpack_scale(dtype type, const uint8_t* record, int row, int s) {
  const panel_format format = format_of(type);
  const float d = half_at(record + 2 * row);
  const float m = format.has_min ? half_at(record + 32 + 2 * row) : 0;
  if (format.scale_blocks == 1) return {d, m};
  if (!format.has_min) return {d * static_cast<float>(static_cast<int8_t>(record[32 + s * 16 + row])), 0};
  const uint8_t* pair = record + 64 + s * 32 + row;
  return {d * static_cast<float>(pair[0]), m * static_cast<float>(pair[16])};
}

}  // namespace

int64_t quantised_weight::panel_bytes() const {
  const panel_format panel = format_of(type());
  return blocks() / panel.scale_blocks * panel.record_bytes();
}

quantised_weight::quantised_weight(std::span<const stored_weight> parts, memory& from)
    : cpu_packed_weight(*parts[0].format, total_rows(parts), parts[0].columns()) {
  bytes = static_cast<size_t>(panels() * panel_bytes());
  data_ = buffer(from, bytes);
  if (bytes)  // the rows that fill up the last panel
    std::memset(data_.as<uint8_t>() + (panels() - 1) * panel_bytes(), 0, static_cast<size_t>(panel_bytes()));
  int64_t row = 0;
  for (const stored_weight& part : parts) {
    const tensor& t = part.data;
    FT_CHECK(t.stride[1] == 1);
    pack_rows(t.as<const uint8_t>(), static_cast<int64_t>(bytes_of(t.type, t.stride[0])), row, t.dim(0));
    row += t.dim(0);
  }
}

// Writes `count` rows that lie `row_bytes` apart as rows `first` and following of the matrix: record by record, so that
// one is finished before the next is begun.
void quantised_weight::pack_rows(const uint8_t* rows, int64_t row_bytes, int64_t first, int64_t count) {
  const dtype_traits& t = traits(type());
  const record_packer pack = packer_of(type());
  const int64_t record_bytes = format_of(type()).record_bytes();
  for (int64_t row = first; row < first + count;) {
    const int64_t end = std::min(first + count, (row / panel_rows + 1) * panel_rows);
    uint8_t* record = data_.as<uint8_t>() + row / panel_rows * panel_bytes();
    const uint8_t* column = rows + (row - first) * row_bytes;
    for (int64_t k = 0; k < in_features; k += t.block_elements, column += t.block_bytes, record += record_bytes)
      for (int64_t r = row; r < end; ++r)
        pack(column + (r - row) * row_bytes, static_cast<int>(r % panel_rows), record);
    row = end;
  }
}

void quantised_weight::unpack_row(int64_t row, float* out) const {
  const panel_format format = format_of(type());
  const int sub = sub_block_elements(type()), lane = static_cast<int>(row % panel_rows);
  const uint8_t* record = panel(row / panel_rows);
  uint8_t quant[quant_block];
  for (int64_t r = 0; r < blocks() / format.scale_blocks; ++r, record += format.record_bytes()) {
    const uint8_t* from = record + format.scale_bytes + lane * row_step;
    for (int at = 0; at < format.scale_blocks * quant_block; at += sub) {
      if (at % quant_block == 0) unpack_integers(format.bits, from + at / quant_block * format.block_bytes(), quant);
      const scale_and_min of = unpack_scale(type(), record, lane, at / sub);
      for (int i = at % quant_block; i < at % quant_block + sub; ++i) {
        const float product = of.scale * static_cast<float>(quant[i] - format.zero);
        *out++ = format.has_min ? product + of.min : product;
      }
    }
  }
}

}  // namespace ft::cpu
