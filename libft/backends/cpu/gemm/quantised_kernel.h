// The kernel of products with quantised weights: a panel of 16 rows of the weight times a tile of activation rows.
//
// Every format and every number of rows goes through the same arithmetic in the same order: for each block of 32
// columns and each of the activations' two terms an exact integer sum s, then acc = fma(float(s) * scale, x_scale, acc)
// for each scale of the block, then, for formats with a minimum, acc = fma(min, x_sum, acc). So an output has the same
// bits whatever rows are beside it.
#pragma once

#include "backends/cpu/gemm/quantised_activations.h"
#include "backends/cpu/gemm/quantised_formats.h"

namespace ft::cpu::FT_ISA::quantised {

// The integers of a block stay in registers for all rows of a tile: 8 vectors of the 32 (16) there are, or of memory
// operands where they do not.
inline constexpr int tile_rows = lanes == 16 ? 8 : 4;

// Fetching a fixed distance ahead also reaches into the next panel: the processor's own prefetching stops at the end of
// each page. With many tiles a panel is in the cache already, and asking again costs nothing that can be measured.
inline constexpr int fetch_ahead = 6144;

template <int bytes>
FT_INLINE void fetch(const uint8_t* from) {
  for (int at = 0; at < bytes; at += 64) __builtin_prefetch(from + fetch_ahead + at);
}

// out[r * panel_rows + n] = sum over k of x[r][k] * w[n][k], for `rows` rows of the tile.
template <dtype type, int rows>
void multiply_panel(const uint8_t* panel, int64_t blocks, const activation_block* x, float* out) {
  constexpr panel_format format = format_of(type);
  constexpr int block_share = format.record_bytes() / format.scale_blocks;  // of a record
  constexpr int parts = block_scales<type>::parts, part = groups / parts;
  for (int row = 0; row < panel_rows; row += lanes) {
    vec acc[rows] = {};
    const activation_block* block = x;
    const uint8_t* record = panel;
    for (int64_t i = 0; i < blocks / format.scale_blocks; ++i, record += format.record_bytes())
      for (int b = 0; b < format.scale_blocks; ++b, block += rows * terms) {
        fetch<block_share>(record + b * block_share);
        block_integers<format.bits> w;
        load_integers<format.bits>(record + format.scale_bytes + b * format.block_bytes() + row * 4, w);
        const block_scales<type> s = load_scales<type>(record, b, row);
        for (int j = 0; j < rows * terms; ++j) {
          vec& sum = acc[j / terms];
          const vec x_scale = broadcast(block[j].scale);
          for (int p = 0; p < parts; ++p) {
            const ivec start = broadcast(block[j].start[p]);
            const ivec s_p = p ? dot<format.bits, groups - part, part>(w, block[j].q, start)
                               : dot<format.bits, 0, part>(w, block[j].q, start);
            sum = fma(__builtin_convertvector(s_p, vec) * s.scale[p], x_scale, sum);
          }
          if constexpr (format.has_min) sum = fma(s.min, broadcast(block[j].sum), sum);
        }
      }
    for (int r = 0; r < rows; ++r) store(out + r * panel_rows + row, acc[r]);
  }
}

using panel_kernel = void (*)(const uint8_t* panel, int64_t blocks, const activation_block* x, float* out);

// The kernels of a format by number of rows, from 1.
struct panel_kernels {
  panel_kernel by_rows[tile_rows];
};

}  // namespace ft::cpu::FT_ISA::quantised
