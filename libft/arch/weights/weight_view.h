// A matched weight where its elements lie in the files: strided blocks that make up the matrix, whatever the layout of
// its source. What is laid out for a device, or cut for a rank, is cut from this.
#pragma once

#include "arch/weights/weight_table.h"

namespace ft::arch {

struct weight_view {
  struct block {
    tensor elements;  // [rows, columns], any strides
    int64_t row = 0;  // where it stands in the weight
    int64_t column = 0;
  };
  int64_t rows = 0;     // out_features, or the length of a vector,
  int64_t columns = 0;  // which has one column
  dtype type = dtype::f32;
  float scale = 1;  // times which the elements are the weight's
  std::vector<block> blocks;

  // Rows (axis 0) or columns (axis 1) begin .. end: a rank's share.
  weight_view slice(int axis, int64_t begin, int64_t end) const;

  // Whether every block spans all columns: in their order they are the weight's rows.
  bool stacked() const;
};

// Of an entry that is there and complete: the rank's share, whether the source holds no more or it is cut out here.
weight_view view_of(const weight_match::entry& entry);

// Copies the elements to `to`, [rows, columns] of the same type and contiguous; unscaled. Quantised blocks stay as they
// are.
void gather(const weight_view& view, void* to);

}  // namespace ft::arch
