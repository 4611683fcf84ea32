// What the current device can do with the code that was compiled for it: which kernels a launcher may choose.
#pragma once

namespace ft::cuda {

struct device_capabilities {
  bool tensor_cores;        // products of 16-bit floats with float32 sums, asynchronous copies (compute capability 8)
  bool dependent_launch;    // a kernel comes while the one before it ends (9)
  bool clusters;            // of blocks that read each other's shared memory (9)
  bool tile_copies;         // of whole tiles to shared memory, which has room for deep rings of them (9, 10)
  bool warpgroup_products;  // (9.0 alone)
};

// Remembered for each device, since every launch asks.
const device_capabilities& capabilities();

}  // namespace ft::cuda
