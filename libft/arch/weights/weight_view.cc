#include "arch/weights/weight_view.h"

#include <algorithm>
#include <cstring>

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

// Copies elements of `bytes` each. Where columns are not dense, in tiles that the cache holds.
template <int bytes>
void copy_elements(const tensor& from, char* to, int64_t to_stride) {
  constexpr int64_t tile = 64;
  const char* data = from.as<const char>();
  for (int64_t r = 0; r < from.dim(0); r += tile)
    for (int64_t c = 0; c < from.dim(1); c += tile)
      for (int64_t i = r; i < std::min(r + tile, from.dim(0)); ++i)
        for (int64_t j = c; j < std::min(c + tile, from.dim(1)); ++j)
          std::memcpy(to + (i * to_stride + j) * bytes, data + (i * from.stride[0] + j * from.stride[1]) * bytes,
                      bytes);
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
  view.type = entry.pieces.front().stored->data.type;
  const auto pieces = static_cast<int64_t>(entry.pieces.size());
  const int64_t rows = by_columns ? view.rows : view.rows / pieces;
  const int64_t columns = by_columns ? view.columns / pieces : view.columns;
  const weight_layout& layout = entry.source->layout;
  view.scale = layout.scale;
  for (int64_t i = 0; i < pieces; ++i)
    add_piece(view, entry.pieces[static_cast<size_t>(i)].stored->data, layout,
              matrix ? layout.transposed : layout.as_row, rows, columns, by_columns ? 0 : i * rows,
              by_columns ? i * columns : 0);
  if (entry.source->is_share || spec.share.count == 1) return view;
  return view.slice(static_cast<int>(spec.split_axis()), spec.share_begin(), spec.share_end());
}

weight_view weight_view::slice(int axis, int64_t begin, int64_t end) const {
  FT_CHECK(0 <= begin && begin <= end && end <= (axis == 0 ? rows : columns));
  weight_view cut{.rows = axis == 0 ? end - begin : rows,
                  .columns = axis == 1 ? end - begin : columns,
                  .type = type,
                  .scale = scale};
  for (const block& b : blocks) {
    const int64_t at = axis == 0 ? b.row : b.column;
    const int64_t from = std::max(begin - at, int64_t{0}), to = std::min(end - at, b.elements.dim(axis));
    if (from >= to) continue;
    block part{b.elements.slice(axis, from, to), b.row, b.column};
    (axis == 0 ? part.row : part.column) = at + from - begin;
    cut.blocks.push_back(part);
  }
  return cut;
}

bool weight_view::stacked() const {
  return std::ranges::all_of(blocks, [&](const block& b) { return b.elements.dim(1) == columns; });
}

void gather(const weight_view& view, void* to) {
  for (const weight_view::block& b : view.blocks) {
    const tensor& from = b.elements;
    char* at = static_cast<char*>(to) + bytes_of(view.type, b.row * view.columns + b.column);
    if (from.stride[1] == 1) {
      const size_t bytes = bytes_of(view.type, from.dim(1));
      for (int64_t i = 0; i < from.dim(0); ++i)
        std::memcpy(at + bytes_of(view.type, i * view.columns),
                    from.as<const char>() + bytes_of(view.type, i * from.stride[0]), bytes);
    } else if (traits(view.type).block_bytes == 4) {
      copy_elements<4>(from, at, view.columns);
    } else {
      copy_elements<2>(from, at, view.columns);
    }
  }
}

}  // namespace ft::arch
