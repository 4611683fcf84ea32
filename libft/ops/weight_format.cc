// The table of formats, and what follows from its lines for every format alike.
#include "ops/weight_format.h"

#include <algorithm>
#include <cstring>

#include "core/memory.h"
#include "core/status.h"
#include "ops/gguf_blocks.h"

namespace ft {
namespace {

constexpr size_t part_alignment = 64;

// Elements and blocks of elements, which dequantise_row reads where they follow each other.
void expand_elements(const stored_weight& w, int64_t row, float* out) {
  const tensor& t = w.data;
  const char* at = t.as<const char>() + bytes_of(t.type, row * t.stride[0]);
  if (t.rank == 1 || t.stride[1] == 1) return dequantise_row(t.type, at, w.columns(), out);
  const int64_t step = t.stride[1] * traits(t.type).block_bytes;
  for (int64_t k = 0; k < t.dim(1); ++k) dequantise_row(t.type, at + k * step, 1, out + k);
}

void expand_int8_rows(const stored_weight& w, int64_t row, float* out) {
  const auto* q = w.data.as<const int8_t>() + row * w.data.stride[0];
  const float scale = w.scales.as<const float>()[row];
  for (int64_t k = 0; k < w.columns(); ++k) out[k] = scale * q[k * w.data.stride[1]];
}

constexpr weight_format floats(std::string_view name, dtype type) {
  return {.name = name, .kind = weight_kind::dense, .data = type, .any_strides = true, .expand = expand_elements};
}

constexpr weight_format blocks(std::string_view name, dtype type, int64_t elements) {
  return {
      .name = name, .kind = weight_kind::gguf_blocks, .data = type, .column_unit = elements, .expand = expand_elements};
}

constexpr weight_format formats[] = {
    floats("float32", dtype::f32),
    floats("float16", dtype::f16),
    floats("bfloat16", dtype::bf16),
    {.name = "int8",
     .kind = weight_kind::int8_rows,
     .data = dtype::i8,
     .any_strides = true,
     .scales = weight_grid{.type = dtype::f32, .rows = 1, .columns = 0},
     .expand = expand_int8_rows},
    blocks("q4_0", dtype::q4_0, 32),
    blocks("q4_1", dtype::q4_1, 32),
    blocks("q5_0", dtype::q5_0, 32),
    blocks("q5_1", dtype::q5_1, 32),
    blocks("q8_0", dtype::q8_0, 32),
    blocks("q4_k", dtype::q4_k, 256),
    blocks("q5_k", dtype::q5_k, 256),
    blocks("q6_k", dtype::q6_k, 256),
};

const weight_format* find(dtype data) {
  const auto* found = std::ranges::find(formats, data, &weight_format::data);
  return found == std::end(formats) ? nullptr : found;
}

// How many rectangles of `unit` an axis has.
int64_t count_of(int64_t length, int64_t unit) { return unit == 0 ? 1 : (length + unit - 1) / unit; }
int64_t place_of(int64_t at, int64_t unit) { return unit == 0 ? 0 : at / unit; }

bool falls_between(int64_t at, int64_t unit) { return unit == 0 || at % unit == 0; }

size_t rounded_up(size_t bytes) { return (bytes + part_alignment - 1) / part_alignment * part_alignment; }

template <size_t bytes>
void copy_elements(const tensor& from, const tensor& to) {
  constexpr int64_t tile = 64;  // squares that the cache holds: columns may be far apart
  for (int64_t r = 0; r < from.dim(0); r += tile)
    for (int64_t c = 0; c < from.dim(1); c += tile)
      for (int64_t i = r; i < std::min(r + tile, from.dim(0)); ++i)
        for (int64_t j = c; j < std::min(c + tile, from.dim(1)); ++j)
          std::memcpy(to.as<char>() + static_cast<size_t>(i * to.stride[0] + j * to.stride[1]) * bytes,
                      from.as<const char>() + static_cast<size_t>(i * from.stride[0] + j * from.stride[1]) * bytes,
                      bytes);
}

// Matrices of one shape and type.
void copy_matrix(const tensor& from, const tensor& to) {
  if (from.stride[1] == 1 && to.stride[1] == 1) {
    const size_t bytes = bytes_of(from.type, from.dim(1));
    for (int64_t i = 0; i < from.dim(0); ++i)
      std::memcpy(to.as<char>() + bytes_of(to.type, i * to.stride[0]),
                  from.as<const char>() + bytes_of(from.type, i * from.stride[0]), bytes);
    return;
  }
  switch (traits(from.type).block_bytes) {
    case 1:
      return copy_elements<1>(from, to);
    case 2:
      return copy_elements<2>(from, to);
    case 4:
      return copy_elements<4>(from, to);
    default:
      fail(FT_ERROR_INTERNAL, "elements of ", name(from.type), " cannot lie apart in a row");
  }
}

}  // namespace

bool weight_format::may_cut(int axis, int64_t at) const {
  const auto grid_may = [&](const std::optional<weight_grid>& g) {
    return !g || falls_between(at, axis == 0 ? g->rows : g->columns);
  };
  if (order && axis == 1) return at == 0;  // columns that stand together are not inputs that do
  return falls_between(at, axis == 0 ? row_unit : column_unit) && grid_may(scales) && grid_may(zeros);
}

std::span<const weight_format> weight_formats() { return formats; }

const weight_format* find_weight_format(dtype type) {
  const weight_format* found = find(type);
  return found && found->data_alone() ? found : nullptr;
}

const weight_format& weight_format_of(dtype type) {
  if (const weight_format* found = find_weight_format(type)) return *found;
  fail(FT_ERROR_UNSUPPORTED, "a weight of dtype ", name(type),
       " cannot be multiplied with: convert it to float32, float16 or bfloat16");
}

const weight_format& computed_format(dtype compute) {
  const weight_format* found = find(compute);
  if (found && found->kind != weight_kind::gguf_blocks) return *found;
  fail(FT_ERROR_UNSUPPORTED, "a model computes in float32, bfloat16, float16 or int8, not in ", name(compute));
}

namespace {

// Each part beside the data that a weight of this format has: f(grid, the weight's member).
template <class F>
void for_each_part(const weight_format& format, F&& f) {
  if (format.scales) f(*format.scales, &stored_weight::scales);
  if (format.zeros) f(*format.zeros, &stored_weight::zeros);
  if (format.order) f(*format.order, &stored_weight::order);
}

}  // namespace

stored_weight stored_weight::slice(int axis, int64_t begin, int64_t end) const {
  const int64_t length = axis == 0 ? rows() : columns();
  FT_CHECK(format->may_cut(axis, begin) && (end == length || format->may_cut(axis, end)));
  stored_weight cut = *this;
  cut.data = data.slice(axis, begin, end);
  for_each_part(*format, [&](const weight_grid& grid, tensor stored_weight::* part) {
    const int64_t unit = axis == 0 ? grid.rows : grid.columns;
    if (unit > 0) cut.*part = (this->*part).slice(axis, begin / unit, count_of(end, unit));
  });
  return cut;
}

void stored_weight::expand(int64_t row, float* out) const {
  if (!order) return format->expand(*this, row, out);
  const buffer in_order_of_data(host_memory(), static_cast<size_t>(columns()) * sizeof(float));
  format->expand(*this, row, in_order_of_data.as<float>());
  for (int64_t k = 0; k < columns(); ++k) {
    const int32_t input = order.as<const int32_t>()[k];
    FT_CHECK(0 <= input && input < columns());
    out[input] = in_order_of_data.as<float>()[k];
  }
}

size_t bytes_of(const weight_format& format, int64_t rows, int64_t columns) {
  size_t bytes = bytes_of(format.data, rows * columns);
  for_each_part(format, [&](const weight_grid& grid, auto) {
    bytes = rounded_up(bytes) + bytes_of(grid.type, count_of(rows, grid.rows) * count_of(columns, grid.columns));
  });
  return bytes;
}

stored_weight laid_out(const weight_format& format, void* memory, int64_t rows, int64_t columns) {
  stored_weight w;
  w.format = &format;
  w.data = tensor(memory, format.data, {rows, columns});
  size_t at = bytes_of(format.data, rows * columns);
  for_each_part(format, [&](const weight_grid& grid, tensor stored_weight::* part) {
    at = rounded_up(at);
    w.*part = tensor(static_cast<char*>(memory) + at, grid.type,
                     {count_of(rows, grid.rows), count_of(columns, grid.columns)});
    at += bytes_of(grid.type, (w.*part).size());
  });
  return w;
}

void copy_part(const stored_weight& from, const stored_weight& to, int64_t row, int64_t column) {
  FT_CHECK(*from.format == *to.format);
  const auto copy = [](const tensor& part, const tensor& whole, int64_t r, int64_t c) {
    copy_matrix(part, whole.slice(0, r, r + part.dim(0)).slice(1, c, c + part.dim(1)));
  };
  copy(from.data, to.data, row, column);
  for_each_part(*from.format, [&](const weight_grid& grid, tensor stored_weight::* part) {
    copy(from.*part, to.*part, place_of(row, grid.rows), place_of(column, grid.columns));
  });
}

}  // namespace ft
