#include "arch/weights/weight_view.h"

#include <algorithm>

namespace ft::arch {
namespace {

tensor strided(const tensor& stored, int64_t offset, std::array<int64_t, 2> shape, std::array<int64_t, 2> stride) {
  tensor t;
  t.type = stored.type;
  t.data = stored.as<char>() + bytes_of(stored.type, offset);
  t.rank = 2;
  t.shape = {shape[0], shape[1]};
  t.stride = {stride[0], stride[1]};
  return t;
}

// Adds what a stored tensor holds of the weight, `rows` x `columns` that stand at (row, column).
void add_piece(weight_view& view, const tensor& stored, const weight_layout& layout, bool transposed, int64_t rows,
               int64_t columns, int64_t row, int64_t column) {
  int64_t row_stride = transposed ? 1 : columns, column_stride = transposed ? layout.parts * rows : 1;
  if (stored.rank == 2) {  // files of torch keep strides
    row_stride = stored.stride[transposed ? 1 : 0];
    column_stride = stored.stride[transposed ? 0 : 1];
  } else if (stored.rank == 1 && !layout.flat) {
    row_stride = stored.stride[0];
  }
  const int64_t height = rows / layout.groups;  // of a group, in rows
  if (layout.parts == 1) {
    view.blocks.push_back({strided(stored, 0, {rows, columns}, {row_stride, column_stride}), row, column});
  } else if (height == 1) {
    view.blocks.push_back(
        {strided(stored, layout.part * row_stride, {rows, columns}, {layout.parts * row_stride, column_stride}), row,
         column});
  } else {
    for (int64_t g = 0; g < layout.groups; ++g) {
      const int64_t first = (g * layout.parts + layout.part) * height;
      view.blocks.push_back({strided(stored, first * row_stride, {height, columns}, {row_stride, column_stride}),
                             row + g * height, column});
    }
  }
}

}  // namespace

weight_view view_of(const weight_match::entry& entry) {
  const weight_spec& spec = *entry.spec;
  const bool matrix = spec.shape.size() == 2, by_columns = matrix && spec.shard == shard_axis::row;
  std::vector<int64_t> shape = spec.shape;
  if (entry.source->is_share) shape[spec.split_axis()] = spec.share_end() - spec.share_begin();
  weight_view view;
  view.rows = shape[0];
  view.columns = shape.size() == 2 ? shape[1] : 1;
  view.format = &weight_format_of(entry.pieces.front().stored->data.type);
  const auto pieces = static_cast<int64_t>(entry.pieces.size());
  const int64_t rows = by_columns ? view.rows : view.rows / pieces;
  const int64_t columns = by_columns ? view.columns / pieces : view.columns;
  const weight_layout& layout = entry.source->layout;
  view.scale = layout.scale;
  for (int64_t i = 0; i < pieces; ++i)
    add_piece(view, entry.pieces[static_cast<size_t>(i)].stored->data, layout,
              matrix ? layout.transposed : layout.as_row, rows, columns, by_columns ? 0 : i * rows,
              by_columns ? i * columns : 0);
  if (entry.source->is_share || !spec.share) return view;
  return view.slice(static_cast<int>(spec.split_axis()), spec.share_begin(), spec.share_end());
}

weight_view weight_view::slice(int axis, int64_t begin, int64_t end) const {
  FT_CHECK(0 <= begin && begin <= end && end <= (axis == 0 ? rows : columns));
  weight_view cut{.rows = axis == 0 ? end - begin : rows,
                  .columns = axis == 1 ? end - begin : columns,
                  .format = format,
                  .scale = scale};
  for (const block& b : blocks) {
    const int64_t at = axis == 0 ? b.row : b.column;
    const int64_t from = std::max(begin - at, int64_t{0}),
                  to = std::min(end - at, axis == 0 ? b.stored.rows() : b.stored.columns());
    if (from >= to) continue;
    block part{b.stored.slice(axis, from, to), b.row, b.column};
    (axis == 0 ? part.row : part.column) = at + from - begin;
    cut.blocks.push_back(part);
  }
  return cut;
}

bool weight_view::stacked() const {
  return std::ranges::all_of(blocks, [&](const block& b) { return b.stored.columns() == columns; });
}

stored_weight gather(const weight_view& view, void* to) {
  const stored_weight whole = laid_out(*view.format, to, view.rows, view.columns);
  for (const weight_view::block& b : view.blocks) copy_part(b.stored, whole, b.row, b.column);
  return whole;
}

}  // namespace ft::arch
