#include "backends/cuda/gemm/tiled_tensor_map.h"

#include "backends/cuda/kernel/tensor_map.h"

namespace ft::cuda {

tiled_tensor_map tensor_map_of_tiles(const void* data, dtype type, int64_t rows, int64_t columns, int64_t stride,
                                     int box_rows, int slabs) {
  const bool whole = columns % 64 == 0;
  tiled_tensor_map tiles{.slabs = whole ? slabs : 1, .whole_slabs = whole};
  tiles.map = map_of({.data = data,
                      .type = type,
                      .size = {whole ? 64 : columns, rows, whole ? columns / 64 : 1},
                      .stride = {stride, 64},
                      .box = {64, box_rows, tiles.slabs}});
  return tiles;
}

}  // namespace ft::cuda
