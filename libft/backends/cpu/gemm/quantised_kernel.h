// The kernel of products with quantised weights: a panel of 16 rows of the weight times a tile of activation rows.
//
// Every format and every number of rows goes through the same arithmetic in the same order: for each block of 32
// columns an exact integer sum s, then acc = fma(float(s) * scale, x_scale, acc) for each scale of the block, then, for
// formats with a minimum, acc = fma(min, x_sum, acc). So an output has the same bits whatever rows are beside it.
#pragma once

#include "backends/cpu/gemm/quantised_activations.h"
#include "backends/cpu/gemm/quantised_formats.h"

namespace ft::cpu::FT_ISA::quantised {

// The integers of a block stay in registers for all rows of a tile: 8 vectors of the 32 (16) there are, or of memory
// operands where they do not.
inline constexpr int tile_rows = lanes == 16 ? 8 : 4;

struct panel_view {
  const uint8_t* integers;
  const uint8_t* scales;
  int64_t blocks;
};

// out[r * panel_rows + n] = sum over k of x[r][k] * w[n][k], for `rows` rows of the tile.
template <dtype type, int rows>
void multiply_panel(const panel_view& panel, const activation_block* x, float* out) {
  constexpr panel_format format = format_of(type);
  for (int row = 0; row < panel_rows; row += lanes) {
    vec acc[rows] = {};
    const activation_block* block = x;
    const uint8_t* integers = panel.integers + row * 4;
    for (int64_t b = 0; b < panel.blocks; ++b, block += rows, integers += format.block_bytes()) {
      block_integers<format.bits> w;
      load_integers<format.bits>(integers, w);
      const block_scales<type> s = load_scales<type>(panel.scales, b, row);
      constexpr int parts = block_scales<type>::parts, part = groups / parts;
      for (int r = 0; r < rows; ++r) {
        const vec x_scale = broadcast(block[r].scale);
        for (int p = 0; p < parts; ++p) {
          const ivec start = broadcast(block[r].start[p]);
          const ivec sum = p ? dot<format.bits, groups - part, part>(w, block[r].q, start)
                             : dot<format.bits, 0, part>(w, block[r].q, start);
          acc[r] = fma(__builtin_convertvector(sum, vec) * s.scale[p], x_scale, acc[r]);
        }
        if constexpr (format.has_min) acc[r] = fma(s.min, broadcast(block[r].sum), acc[r]);
      }
    }
    for (int r = 0; r < rows; ++r) store(out + r * panel_rows + row, acc[r]);
  }
}

using panel_kernel = void (*)(const panel_view&, const activation_block*, float*);

// The kernels of a format by number of rows, from 1.
struct panel_kernels {
  panel_kernel by_rows[tile_rows];
};

}  // namespace ft::cpu::FT_ISA::quantised
