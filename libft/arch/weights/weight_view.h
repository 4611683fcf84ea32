// A matched weight where its elements lie in the files: strided blocks that make up the matrix, whatever the layout of
// its source. What is laid out for a device, or cut for a rank, is cut from this.
#pragma once

#include "arch/weights/weight_table.h"
#include "ops/weight_format.h"

namespace ft::arch {

struct weight_view {
  struct block {
    stored_weight stored;
    int64_t row = 0;  // where it stands in the weight
    int64_t column = 0;
  };
  int64_t rows = 0;                       // out_features, or the length of a vector,
  int64_t columns = 0;                    // which has one column
  const weight_format* format = nullptr;  // of all blocks
  float scale = 1;                        // times which the elements are the weight's
  std::vector<block> blocks;

  size_t bytes() const { return bytes_of(*format, rows, columns); }

  // Rows (axis 0) or columns (axis 1) begin .. end: a rank's share.
  weight_view slice(int axis, int64_t begin, int64_t end) const;

  // Whether every block spans all columns: in their order they are the weight's rows.
  bool stacked() const;
};

// Of an entry that is there and complete: the rank's share, whether the source holds no more or it is cut out here.
weight_view view_of(const weight_match::entry& entry);

// Copies the parts to `to`, view.bytes() of memory, as laid_out() (ops/weight_format.h) says; unscaled. Elements stay
// as they are.
stored_weight gather(const weight_view& view, void* to);

}  // namespace ft::arch
