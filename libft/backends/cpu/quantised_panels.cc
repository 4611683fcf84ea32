// Packs GGUF blocks into panels and reads single rows back; see the header for the layout.
#include "backends/cpu/quantised_panels.h"

#include <cstring>

#include "backends/cpu/half.h"
#include "ops/gguf_blocks.h"

namespace ft::cpu {
namespace {

constexpr int row_step = 4;  // bytes of one row in a vector

float half_at(const uint8_t* p) {
  f16 h;
  std::memcpy(&h, p, sizeof h);
  return to_float(h);
}

void put_half(uint8_t* p, float value) {
  const f16 h = from_float<f16>(value);  // exact: it was a half before
  std::memcpy(p, &h, sizeof h);
}

// Four columns of one row, 4 bytes each, into vectors 0 .. count - 1.
void scatter(const uint8_t* bytes, int count, uint8_t* to) {
  for (int v = 0; v < count; ++v) std::memcpy(to + v * group_bytes, bytes + v * row_step, row_step);
}

// One row's 32 integers into a block of the panel; `to` is the row's place in its first vector.
void pack_integers(int bits, const uint8_t* quant, uint8_t* to) {
  if (bits == 8) return scatter(quant, 8, to);
  uint8_t nibbles[16], top[8] = {};
  for (int i = 0; i < 16; ++i) nibbles[i] = static_cast<uint8_t>((quant[i] & 15) | (quant[i + 16] & 15) << 4);
  scatter(nibbles, 4, to);
  to += 4 * group_bytes;
  if (bits == 5) {
    for (int i = 0; i < 32; ++i) top[i % 4] |= static_cast<uint8_t>((quant[i] >> 4) << (i / 4));
    scatter(top, 1, to);
  } else if (bits == 6) {
    for (int i = 0; i < 32; ++i) top[i / 16 * 4 + i % 4] |= static_cast<uint8_t>((quant[i] >> 4) << (i / 4 % 4 * 2));
    scatter(top, 2, to);
  }
}

// The reverse of pack_integers.
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

// One row's scales of one GGUF block into a record; `row` is its place in the panel.
void pack_scales(dtype type, const gguf_block& block, int row, uint8_t* record) {
  const panel_format format = format_of(type);
  put_half(record + 2 * row, block.d);
  uint8_t* to = record + 32;
  if (format.has_min) {
    put_half(to + 2 * row, block.m);
    to += 32;
  }
  if (format.scale_blocks == 1) return;
  const int sub_blocks = 256 / sub_block_elements(type);
  for (int s = 0; s < sub_blocks; ++s) {
    to[row] = static_cast<uint8_t>(block.scale[s]);
    to += panel_rows;
    if (format.has_min) {
      to[row] = static_cast<uint8_t>(block.min[s]);
      to += panel_rows;
    }
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
  const panel_format format = format_of(type);
  return blocks() / format.scale_blocks * format.record_bytes();
}

quantised_weight::quantised_weight(std::span<const tensor> parts) {
  check_parts(parts);
  type = parts[0].type;
  FT_CHECK(is_quantised(type));
  out_features = total_rows(parts);
  in_features = parts[0].dim(1);
  bytes = static_cast<size_t>(panels() * panel_bytes());
  data_ = buffer(host_memory(), bytes);
  if (panels())  // the rows that fill up the last panel
    std::memset(data_.as<uint8_t>() + (panels() - 1) * panel_bytes(), 0, static_cast<size_t>(panel_bytes()));
  int64_t row = 0;
  for (const tensor& part : parts) {
    FT_CHECK(part.stride[1] == 1);
    pack_rows(part.as<const uint8_t>(), static_cast<int64_t>(bytes_of(type, part.stride[0])), row, part.dim(0));
    row += part.dim(0);
  }
}

// Writes `count` rows that lie `row_bytes` apart as rows `first` and following of the matrix.
void quantised_weight::pack_rows(const uint8_t* rows, int64_t row_bytes, int64_t first, int64_t count) {
  const dtype_traits& t = traits(type);
  const panel_format format = format_of(type);
  const int file_blocks = t.block_elements / quant_block;  // blocks of a panel in one of the file: a record's
  gguf_block block;
  for (int64_t i = 0; i < count; ++i) {
    const int row = static_cast<int>((first + i) % panel_rows);
    uint8_t* record = data_.as<uint8_t>() + (first + i) / panel_rows * panel_bytes();
    const uint8_t* from = rows + i * row_bytes;
    for (int64_t k = 0; k < in_features; k += t.block_elements, from += t.block_bytes) {
      take_apart(type, from, block);
      pack_scales(type, block, row, record);
      uint8_t* to = record + format.scale_bytes + row * row_step;
      for (int b = 0; b < file_blocks; ++b, to += format.block_bytes())
        pack_integers(format.bits, block.quant + b * quant_block, to);
      record += format.record_bytes();
    }
  }
}

void quantised_weight::unpack_row(int64_t row, float* out) const {
  const panel_format format = format_of(type);
  const int sub = sub_block_elements(type), lane = static_cast<int>(row % panel_rows);
  const uint8_t* record = panel(row / panel_rows);
  uint8_t quant[quant_block];
  for (int64_t r = 0; r < blocks() / format.scale_blocks; ++r, record += format.record_bytes()) {
    const uint8_t* from = record + format.scale_bytes + lane * row_step;
    for (int at = 0; at < format.scale_blocks * quant_block; at += sub) {
      if (at % quant_block == 0) unpack_integers(format.bits, from + at / quant_block * format.block_bytes(), quant);
      const scale_and_min of = unpack_scale(type, record, lane, at / sub);
      for (int i = at % quant_block; i < at % quant_block + sub; ++i) {
        const float product = of.scale * static_cast<float>(quant[i] - format.zero);
        *out++ = format.has_min ? product + of.min : product;
      }
    }
  }
}

}  // namespace ft::cpu
