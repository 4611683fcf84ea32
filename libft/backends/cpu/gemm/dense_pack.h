// Laying out a dense_weight: source rows are converted 64 bytes at a time into lines of units and transposed, a block
// of `lanes` rows at once, so that loading a model runs near the memory's speed.
#pragma once

#include <type_traits>

#include "backends/cpu/gemm/dense_weight.h"

namespace ft::cpu::FT_ISA {

// ---- transposing ----

// Lane j of row i trades places with lane j ^ d of row i ^ d where bit d of i and j differ: one butterfly of Eklundh's
// transposition ("A fast computer method for matrix transposing", IEEE Trans. Computers, 1972).
template <int d, bool upper, int... j>
FT_INLINE ivec butterfly(ivec a, ivec b, std::integer_sequence<int, j...>) {
  if constexpr (upper)
    return __builtin_shufflevector(a, b, ((j & d) ? j + lanes : j + d)...);
  else
    return __builtin_shufflevector(a, b, ((j & d) ? j - d + lanes : j)...);
}

template <int d = lanes / 2>
FT_INLINE void transpose(ivec (&rows)[lanes]) {
  constexpr auto all = std::make_integer_sequence<int, lanes>{};
  for (int i = 0; i < lanes; ++i) {
    if (i & d) continue;
    const ivec a = rows[i], b = rows[i + d];
    rows[i] = butterfly<d, false>(a, b, all);
    rows[i + d] = butterfly<d, true>(a, b, all);
  }
  if constexpr (d > 1) transpose<d / 2>(rows);
}

// ---- lines: line_units consecutive units of one source row ----

constexpr int line_units = 16;
using line = uint32_t[line_units];

// From the row's elements at `from`, `left` of them (the rest is zero).
template <class D, class Source>
FT_INLINE void make_line(const char* from, int64_t left, float inverse_scale, line& to) {
  using element = typename D::element;
  constexpr int count = line_units * D::group;
  alignas(64) Source padded[count];
  if (left < count) {
    std::memset(padded, 0, sizeof padded);
    std::memcpy(padded, from, static_cast<size_t>(left) * sizeof(Source));
    from = reinterpret_cast<const char*>(padded);
  }
  const Source* source = reinterpret_cast<const Source*>(from);
  if constexpr (D::integer) {
    typedef int8_t bytes __attribute__((vector_size(lanes)));
    for (int i = 0; i < count; i += lanes) {
      const bytes q = __builtin_convertvector(round_to_integer(load(source + i) * inverse_scale), bytes);
      std::memcpy(reinterpret_cast<char*>(to) + i, &q, sizeof q);
    }
    if (D::middle_swapped)
      for (uint32_t& u : to) u = (u & 0xff0000ffu) | (u >> 8 & 0xff00u) | (u & 0xff00u) << 8;
  } else if constexpr (std::is_same_v<Source, element> && D::group > 1) {
    std::memcpy(to, source, sizeof(line));
  } else if constexpr (D::group > 1) {
    for (int i = 0; i < count; i += lanes) store(reinterpret_cast<element*>(to) + i, load(source + i));
  } else {  // one element a unit, as float32 until it is stored
    for (int i = 0; i < count; i += lanes) store(reinterpret_cast<float*>(to) + i, load(source + i));
  }
}

template <class D>
FT_INLINE void store_units(char* to, ivec units) {
  if constexpr (sizeof(typename D::element) * D::group == 4)
    std::memcpy(to, &units, sizeof units);
  else
    store(reinterpret_cast<typename D::element*>(to), float_of(units));
}

template <class D>
FT_INLINE void store_unit(char* to, uint32_t unit) {
  if constexpr (sizeof(typename D::element) * D::group == 4) {
    std::memcpy(to, &unit, sizeof unit);
  } else {
    const auto element = from_float<typename D::element>(std::bit_cast<float>(unit));
    std::memcpy(to, &element, sizeof element);
  }
}

// Where `count` rows of the weight, which share a vector of a panel, come from and go.
struct row_block {
  const char* from;             // the first row
  int64_t from_stride;          // bytes from row to row
  const float* inverse_scales;  // int8
  int64_t count;
  char* to;  // the first row's place in the panel's first step
};

template <class D, class Source>
void place_rows(const row_block& block, int64_t in_features) {
  using layout = layout_of<D>;
  constexpr int row_bytes = layout::vector_bytes / lanes;
  const int64_t units = layout::units(in_features);
  alignas(64) line lines[lanes];
  for (int64_t u = 0; u < units; u += line_units) {
    const int64_t k = u * D::group;
    const int64_t valid = std::min<int64_t>(line_units, units - u);
    for (int64_t r = 0; r < block.count; ++r)
      make_line<D, Source>(block.from + r * block.from_stride + k * static_cast<int64_t>(sizeof(Source)),
                           in_features - k, D::integer ? block.inverse_scales[r] : 1, lines[r]);
    char* to = block.to + u * layout::step_bytes;
    if (block.count < lanes) {
      for (int64_t r = 0; r < block.count; ++r)
        for (int64_t i = 0; i < valid; ++i) store_unit<D>(to + i * layout::step_bytes + r * row_bytes, lines[r][i]);
      continue;
    }
    for (int64_t i = 0; i < valid; i += lanes) {
      ivec rows[lanes];
      for (int r = 0; r < lanes; ++r) rows[r] = load_bits<ivec>(lines[r] + i);
      transpose(rows);
      for (int64_t j = 0; j < std::min<int64_t>(lanes, valid - i); ++j)
        store_units<D>(to + (i + j) * layout::step_bytes, rows[j]);
    }
  }
}

template <class D>
void place_rows(dtype source, const row_block& block, int64_t in_features) {
  switch (source) {
    case dtype::f32:
      return place_rows<D, float>(block, in_features);
    case dtype::f16:
      return place_rows<D, f16>(block, in_features);
    default:
      return place_rows<D, bf16>(block, in_features);
  }
}

// One element of a matrix of any strides and alignment.
inline float element_of(const tensor& t, int64_t row, int64_t column) {
  const char* at = t.as<const char>() + (row * t.stride[0] + column * t.stride[1]) * traits(t.type).block_bytes;
  if (t.type == dtype::f32) return read<float>(at);
  return t.type == dtype::f16 ? to_float(read<f16>(at)) : to_float(read<bf16>(at));
}

// `count` rows, at most `lanes`, whose columns are dense (a matrix stored transposed) to float32 rows: tiles of lanes x
// lanes elements are loaded by columns and turned, so that every line of the source is read once for all the rows.
template <class Source>
void turn_rows(const tensor& t, int64_t row, int64_t count, float* to) {
  const int64_t columns = t.dim(1);
  const auto* from = reinterpret_cast<const Source*>(t.as<const char>() + row * static_cast<int64_t>(sizeof(Source)));
  for (int64_t k = 0; k < columns; k += lanes) {
    const int64_t valid = std::min<int64_t>(lanes, columns - k);
    ivec tile[lanes] = {};
    for (int64_t j = 0; j < valid; ++j) tile[j] = bits_of(load(from + (k + j) * t.stride[1], static_cast<int>(count)));
    transpose(tile);
    for (int64_t r = 0; r < count; ++r) store(to + r * columns + k, float_of(tile[r]), static_cast<int>(valid));
  }
}

// `count` rows, at most `lanes`, of any format and strides as contiguous float32 rows.
inline void widen_rows(const stored_weight& w, int64_t row, int64_t count, float* to) {
  const tensor& t = w.data;
  const int64_t columns = t.dim(1);
  if (!w.format->is_float()) {
    for (int64_t r = 0; r < count; ++r) w.expand(row + r, to + r * columns);
    return;
  }
  const auto widen = [&]<class Source>(Source) {
    if (t.stride[0] == 1 && t.stride[1] != 1) return turn_rows<Source>(t, row, count, to);
    for (int64_t r = 0; r < count; ++r) {
      const char* from = t.as<const char>() + (row + r) * t.stride[0] * static_cast<int64_t>(sizeof(Source));
      float* out = to + r * columns;
      if (t.stride[1] != 1)
        for (int64_t k = 0; k < columns; ++k) out[k] = element_of(t, row + r, k);
      else
        for_vectors(columns,
                    [&](int64_t i, auto n) { store(out + i, load(reinterpret_cast<const Source*>(from) + i, n), n); });
    }
  };
  if (t.type == dtype::f32)
    widen(float{});
  else if (t.type == dtype::f16)
    widen(f16{});
  else
    widen(bf16{});
}

// ---- the weight ----

template <class D>
dense_weight<D>::dense_weight(std::span<const stored_weight> parts, const weight_format& made, memory& from)
    : cpu_packed_weight(made, total_rows(parts), parts[0].columns()) {
  const size_t padded_rows = static_cast<size_t>(num_panels()) * panel_width;
  panels_ = buffer(from, static_cast<size_t>(num_panels()) * panel_bytes());
  if (D::integer) {
    if (in_features > int64_t{1} << 16)  // 2^16 products of 255 and 127 still fit the 32-bit sums
      fail(FT_ERROR_UNSUPPORTED, "int8 weights may have up to 65536 columns, this one has ", in_features);
    scales_ = buffer(from, padded_rows * sizeof(float));
    corrections_ = buffer(from, padded_rows * sizeof(int32_t));
    std::memset(scales_.data(), 0, scales_.bytes());
  }
  bytes = panels_.bytes() + scales_.bytes() + corrections_.bytes();
  if (num_panels() > 0) std::memset(const_cast<char*>(panel(num_panels() - 1)), 0, panel_bytes());
  int64_t row = 0;
  for (const stored_weight& part : parts) {
    pack_part(part, row);
    row += part.rows();
  }
  if constexpr (D::integer) set_corrections();
}

template <class D>
void dense_weight<D>::pack_part(const stored_weight& stored, int64_t row) {
  const tensor& part = stored.data;
  const bool direct = !D::integer && stored.format->is_float() && (part.stride[1] == 1 || in_features == 1);
  const buffer widened(host_memory(), direct ? 0 : static_cast<size_t>(lanes * in_features) * sizeof(float));
  const int element_bytes = traits(part.type).block_bytes;
  float inverse_scales[lanes] = {};
  for (int64_t i = 0, n; i < part.dim(0); i += n, row += n) {
    n = std::min<int64_t>(lanes - row % lanes, part.dim(0) - i);
    char* to = const_cast<char*>(panel(row / panel_width)) + row % panel_width * (layout::vector_bytes / lanes);
    if (direct) {
      const char* from = part.as<const char>() + i * part.stride[0] * element_bytes;
      place_rows<D>(part.type, {from, part.stride[0] * element_bytes, inverse_scales, n, to}, in_features);
      continue;
    }
    widen_rows(stored, i, n, widened.as<float>());
    if constexpr (D::integer)
      for (int64_t r = 0; r < n; ++r) {
        const row_scale s = scale_of(widened.as<float>() + r * in_features, in_features);
        inverse_scales[r] = s.inverse;
        scales_.as<float>()[row + r] = s.scale;
      }
    const int64_t stride = in_features * static_cast<int64_t>(sizeof(float));
    place_rows<D, float>({widened.as<const char>(), stride, inverse_scales, n, to}, in_features);
  }
}

template <class D>
void dense_weight<D>::set_corrections() {
  int32_t* sums = corrections_.as<int32_t>();
  std::memset(sums, 0, corrections_.bytes());
  if constexpr (D::integer) {
    if (D::offset == 0) return;
    for (int64_t p = 0; p < num_panels(); ++p)
      for (int64_t u = 0; u < layout::units(in_features); ++u) {
        const int8_t* q = reinterpret_cast<const int8_t*>(panel(p) + u * layout::step_bytes);
        for (int c = 0; c < panel_width; ++c)
          sums[p * panel_width + c] -= D::offset * (q[4 * c] + q[4 * c + 1] + q[4 * c + 2] + q[4 * c + 3]);
      }
  }
}

template <class D>
void dense_weight<D>::unpack_row(int64_t row, float* out) const {
  constexpr int row_bytes = layout::vector_bytes / lanes;
  const char* unit = panel(row / panel_width) + row % panel_width * row_bytes;
  for (int64_t k = 0; k < in_features; k += D::group, unit += layout::step_bytes)
    for (int g = 0; g < D::group && k + g < in_features; ++g) {
      if constexpr (D::integer) {
        const int at = D::middle_swapped && (g == 1 || g == 2) ? 3 - g : g;
        out[k + g] = static_cast<float>(static_cast<int8_t>(unit[at])) * scales()[row];
      } else {
        out[k + g] = to_float(read<typename D::element>(unit + g * static_cast<int>(sizeof(typename D::element))));
      }
    }
}

}  // namespace ft::cpu::FT_ISA
