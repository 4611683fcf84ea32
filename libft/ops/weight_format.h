// How a weight is stored: its format and the parts that the format has. A format says once how its elements are coded,
// between which of them a weight may be cut, how the parts lie in memory, and what they stand for (expand(), the
// reference). Who loads, cuts, converts, counts or packs weights asks the format; a further one is a line of the table
// in weight_format.cc, and kernels for it in a backend.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/tensor.h"

namespace ft {

// What kernels and checks tell formats apart by.
enum class weight_kind : uint8_t {
  dense,       // floats
  int8_rows,   // int8 with a scale for each output: what dynamic int8 computes on
  gguf_blocks  // a row in GGUF's blocks (ops/gguf_blocks.h), which hold their own scales
};

struct stored_weight;

// A part beside the data: one element for each rectangle of the weight; 0 is all of an axis.
struct weight_grid {
  dtype type = dtype::f32;
  int64_t rows = 1;
  int64_t columns = 0;
};

struct weight_format {
  std::string_view name;  // as people read it: "float16", "q4_0", "int8"
  weight_kind kind;
  dtype data;                // of the elements, [rows, columns]
  int64_t row_unit = 1;      // outputs, and
  int64_t column_unit = 1;   // inputs that are coded together
  bool any_strides = false;  // may lie transposed; else a row's elements follow each other
  std::optional<weight_grid> scales{}, zeros{};
  // i32: the input that each column of the data belongs to; else each belongs to its own.
  std::optional<weight_grid> order{};
  // A row's elements in the order of the data, as float32. Rounds after each operation.
  void (*expand)(const stored_weight& weight, int64_t row, float* out) = nullptr;

  bool is_float() const { return kind == weight_kind::dense; }
  // Whether the data alone is a weight: what a file holds under one name.
  bool data_alone() const { return !scales && !zeros && !order; }
  // Whether an axis (0: outputs, 1: inputs) may be cut at `at`: between units, and between the parts' rectangles.
  bool may_cut(int axis, int64_t at) const;

  // Formats are few and named; a backend that was opened at run time has a table of its own.
  friend bool operator==(const weight_format& a, const weight_format& b) { return a.name == b.name; }
};

std::span<const weight_format> weight_formats();

// The format of a tensor that is a weight by itself: floats, GGUF's blocks. Null where there is none.
const weight_format* find_weight_format(dtype type);
// The same; throws ft::error (FT_ERROR_UNSUPPORTED) where there is none.
const weight_format& weight_format_of(dtype type);
// What a model that computes in `compute` (f32, bf16, f16, or i8 for dynamic int8) computes on by itself.
const weight_format& computed_format(dtype compute);

// A matrix [rows, columns] = [out_features, in_features], or a vector [rows, 1], in memory that others own.
struct stored_weight {
  const weight_format* format = nullptr;
  tensor data;                  // [rows, columns] in elements, of format->data
  tensor scales, zeros, order;  // [rectangles down, rectangles across]; null where the format has none

  stored_weight() = default;
  // Of a format that is data alone.
  stored_weight(const tensor& elements) : format(&weight_format_of(elements.type)), data(elements) {}

  int64_t rows() const { return data.dim(0); }
  int64_t columns() const { return data.rank > 1 ? data.dim(1) : 1; }

  // Rows (axis 0) or columns (axis 1) begin .. end; both must be places where the format may be cut.
  stored_weight slice(int axis, int64_t begin, int64_t end) const;

  // Row `row` in the order of the inputs: out[0 .. columns).
  void expand(int64_t row, float* out) const;
};

// How a weight of so many rows and columns lies in one piece of memory: data, scales, zeros and order after each other,
// each beginning at a multiple of 64 bytes.
size_t bytes_of(const weight_format& format, int64_t rows, int64_t columns);
stored_weight laid_out(const weight_format& format, void* memory, int64_t rows, int64_t columns);

// Copies `from`, part by part, to where its first element stands at (row, column) of `to`, of the same format.
void copy_part(const stored_weight& from, const stored_weight& to, int64_t row, int64_t column);

}  // namespace ft
