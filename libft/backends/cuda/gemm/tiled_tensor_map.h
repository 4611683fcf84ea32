// Maps of matrices in device memory, by which compute capability 9.0 and newer copies tiles of them to shared memory
// (CUDA driver API, "Tensor Map Object Management").
#pragma once

#include <cuda.h>

#include "core/tensor.h"

namespace ft::cuda {

inline constexpr int slab_bytes = 128, slab = slab_bytes / 2;  // of a row of a tile, and the columns of a 16-bit type

// Tiles of `box_rows` (at most 256) rows and `slabs` times 128 bytes of each, [slabs][box_rows][128 bytes], for a
// matrix of a 16-bit type whose start and row stride are multiples of 16 bytes. In shared memory, at a multiple of 1024
// bytes, the 16-byte vectors of a row stand at (vector ^ row % 8); what lies outside of the matrix is zero. More than
// one slab at a time can be had where rows are a whole number of them.
struct tiled_tensor_map {
  CUtensorMap map;
  int slabs;         // of a copy
  bool whole_slabs;  // of rows: the map has them as a dimension
};

tiled_tensor_map tensor_map_of_tiles(const void* data, dtype type, int64_t rows, int64_t columns, int64_t stride,
                                     int box_rows, int slabs);

}  // namespace ft::cuda
