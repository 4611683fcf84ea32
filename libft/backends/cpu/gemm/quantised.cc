// Products with GGUF-quantised weights: activations are quantised once a call, then tasks of a panel of the weight and
// a range of rows run over the threads.
#include "backends/cpu/gemm/quantised.h"

#include <algorithm>
#include <utility>

#include "backends/cpu/gemm/quantised_kernel.h"
#include "backends/cpu/isa/activate.h"

namespace ft::cpu::FT_ISA {
namespace quantised {
namespace {

template <dtype type, int... row>
constexpr panel_kernels kernels_for(std::integer_sequence<int, row...>) {
  return {{multiply_panel<type, row + 1>...}};
}

template <dtype type>
constexpr panel_kernels kernels_for() {
  return kernels_for<type>(std::make_integer_sequence<int, tile_rows>{});
}

const panel_kernels& kernels_of(dtype type) {
  static constexpr panel_kernels table[] = {
      kernels_for<dtype::q4_0>(), kernels_for<dtype::q4_1>(), kernels_for<dtype::q5_0>(), kernels_for<dtype::q5_1>(),
      kernels_for<dtype::q8_0>(), kernels_for<dtype::q4_k>(), kernels_for<dtype::q5_k>(), kernels_for<dtype::q6_k>()};
  return table[static_cast<int>(type) - static_cast<int>(dtype::q4_0)];
}

// Calls body(begin, end) over [0, count), on the pool's threads if there is a pool.
template <class Body>
void in_parallel(exec& ex, int64_t count, int64_t grain, Body&& body) {
  if (ex.pool)
    ex.pool->parallel_for(count, grain, [&](int64_t begin, int64_t end, int) { body(begin, end); });
  else if (count > 0)
    body(int64_t{0}, count);
}

// Adds the bias, applies the activation, adds the residual and writes `rows` rows of a panel's outputs.
template <activation_kind kind>
void finish(const float* tile, const linear_args& args, int64_t first_row, int64_t rows, int64_t column, int count) {
  const float* bias = values_of(args.bias);
  for (int64_t r = 0; r < rows; ++r, tile += panel_rows) {
    float* out = args.out.as<float>() + (first_row + r) * args.out.stride[0] + column;
    const float* residual =
        args.residual ? args.residual.as<float>() + (first_row + r) * args.residual.stride[0] + column : nullptr;
    for_vectors(count, [&](int64_t i, auto n) {
      vec y = load(tile + i);
      if (bias) y += load(bias + column + i, n);
      y = activate<kind>(y);
      if (residual) y += load(residual + i, n);
      store(out + i, y, n);
    });
  }
}

class panel_weight final : public quantised_weight {
 public:
  using quantised_weight::quantised_weight;
  void multiply(exec& ex, const linear_args& args) const override;

 private:
  activation_block* quantise(exec& ex, const linear_args& args, const row_tiles& tiles) const;
  void multiply_tiles(const linear_args& args, const activation_block* x, const row_tiles& tiles, int64_t begin,
                      int64_t end, int64_t index) const;
};

// Threads share the rows only where that is worth waking them.
activation_block* panel_weight::quantise(exec& ex, const linear_args& args, const row_tiles& tiles) const {
  constexpr int64_t worth_sharing = 16384;  // elements: a few microseconds' work
  const int zero = format_of(type()).zero;
  const bool halves = type() == dtype::q6_k;
  auto* out = ex.scratch.make<activation_block>(tiles.rows * blocks() * terms);
  const auto quantise_tiles = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = tiles.begin(t), rows = tiles.begin(t + 1) - first;
      for (int64_t r = 0; r < rows; ++r)
        quantise_row(args.x.as<float>() + (first + r) * args.x.stride[0], blocks(), zero, halves,
                     out + (first * blocks() + r) * terms, rows * terms);
    }
  };
  if (tiles.rows * in_features >= worth_sharing)
    in_parallel(ex, tiles.tiles, 1, quantise_tiles);
  else
    quantise_tiles(0, tiles.tiles);
  return out;
}

void panel_weight::multiply_tiles(const linear_args& args, const activation_block* x, const row_tiles& tiles,
                                  int64_t begin, int64_t end, int64_t index) const {
  const panel_kernels& kernels = kernels_of(type());
  const int64_t column = index * panel_rows;
  const int count = static_cast<int>(std::min<int64_t>(panel_rows, out_features - column));
  alignas(64) float tile[tile_rows * panel_rows];
  for (int64_t t = begin; t < end; ++t) {
    const int64_t first = tiles.begin(t), rows = tiles.begin(t + 1) - first;
    kernels.by_rows[rows - 1](panel(index), blocks(), x + first * blocks() * terms, tile);
    with_activation(args.activation,
                    [&](auto kind) { finish<decltype(kind)::value>(tile, args, first, rows, column, count); });
  }
}

void panel_weight::multiply(exec& ex, const linear_args& args) const {
  const int64_t rows = args.x.dim(0);
  if (rows == 0 || out_features == 0) return;
  arena::scope scope(ex.scratch);
  const row_tiles tiles(rows, tile_rows);
  const activation_block* x = quantise(ex, args, tiles);
  // A task is a panel and a range of tiles: as many as stay in the second-level cache from one panel to the next, and
  // fewer where there would not be enough tasks.
  constexpr int64_t cached_bytes = 384 << 10;
  const int threads = ex.pool ? ex.pool->size() : 1;
  const int64_t tile_bytes = blocks() * tile_rows * terms * static_cast<int64_t>(sizeof(activation_block));
  const int64_t wanted = threads > 1 ? (4 * threads + panels() - 1) / panels() : 1;
  const int64_t ranges = std::min(tiles.tiles, std::max(wanted, tiles.tiles * tile_bytes / cached_bytes + 1));
  // Threads take runs of tasks: short ones at the end even out, but a stream from memory is slow to start.
  constexpr int64_t streamed_bytes = 256 << 10;
  const int64_t share = (panels() * ranges + threads - 1) / threads;
  const int64_t streamed = tiles.tiles == 1 ? streamed_bytes / panel_bytes() + 1 : 1;
  const int64_t grain = std::min(share, std::max(share / 4, streamed));
  in_parallel(ex, panels() * ranges, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t range = i / panels();
      multiply_tiles(args, x, tiles, tiles.tiles * range / ranges, tiles.tiles * (range + 1) / ranges, i % panels());
    }
  });
}

}  // namespace
}  // namespace quantised

std::unique_ptr<packed_weight> pack_quantised(std::span<const stored_weight> parts, memory& from) {
  return std::make_unique<quantised::panel_weight>(parts, from);
}

}  // namespace ft::cpu::FT_ISA
