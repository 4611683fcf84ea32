// Activations for products with quantised weights: each row's blocks of 32 columns as bytes with a scale, twice.
//
// A block x becomes q = round(x / scale) with scale = max |x| / 127 (ties to even), so x is off by at most scale / 2;
// what is left, x - scale q, is quantised in the same way as a second term, and the product takes both. One term would
// do for most activations, but language models have a few that are hundreds of times their neighbours: they make a
// block's scale coarse, and cost SmolLM2-135M 0.6 % of perplexity; two terms cost it less than 0.01 %.
//
// A block whose largest value is so small that 127 / max overflows becomes zero. An infinity or NaN makes the scale so
// too, and with it every output of the row.
//
// The weights' zero point z is taken out before the product, sum (w - z) q = -z sum q + sum w q: `start` is -z sum q
// for the two halves of the block (the whole block's in start[0] unless scales come every 16 columns), where the
// integer sum begins. `sum` = scale * sum q is for the weights' minimum.
#pragma once

#include "backends/cpu/isa/simd.h"
#include "backends/cpu/quantised_panels.h"

namespace ft::cpu::FT_ISA::quantised {

struct activation_block {
  int8_t q[quant_block];
  int32_t start[2];
  float scale;
  float sum;
};

// Blocks that stand for one block of x, side by side: the value and its remainder.
inline constexpr int terms = 2;

// Rows are quantised in tiles that the kernel takes together: tile t holds rows [begin(t), begin(t + 1)), block by
// block, each block's rows side by side.
struct row_tiles {
  int64_t rows, tiles;
  row_tiles(int64_t rows, int64_t tile_rows) : rows(rows), tiles((rows + tile_rows - 1) / tile_rows) {}
  int64_t begin(int64_t tile) const { return rows * tile / tiles; }
};

// Writes one row's blocks, each as its terms; from one to the next are `stride` blocks. `halves` tells whether the sums
// are taken for each half.
void quantise_row(const float* x, int64_t blocks, int zero_point, bool halves, activation_block* out, int64_t stride);

}  // namespace ft::cpu::FT_ISA::quantised
