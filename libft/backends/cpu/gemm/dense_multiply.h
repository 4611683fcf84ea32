// The blocking of a product: x is packed by all threads into tiles, then tasks of some tiles times one panel are taken
// dynamically, in an order in which a thread keeps meeting the same tiles. There is one wait within the loop, for
// the packing, and none when x is so small that the caller packs it first.
#pragma once

#include <atomic>

#include "backends/cpu/gemm/dense_weight.h"
#include "backends/cpu/gemm/tile.h"

namespace ft::cpu::FT_ISA {

// A stretch of k whose panel part stays in the L2 cache while tiles go by.
constexpr int64_t panel_stretch_bytes = 256 << 10;
// Packed rows that stay in the L2 cache while panels go by.
constexpr int64_t block_bytes = 384 << 10;
// Packed rows held at once: a longer x is taken in portions.
constexpr int64_t portion_bytes = 4 << 20;
// Below this the caller packs x alone.
constexpr int64_t serial_bytes = 16 << 10;

// Rows [0, rows) cut into tiles as even as can be.
struct tiling {
  int64_t rows, count;
  explicit tiling(int64_t rows) : rows(rows), count((rows + tile_rows - 1) / tile_rows) {}
  int64_t begin(int64_t tile) const { return rows * tile / count; }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
};

template <class D>
class product {
 public:
  using layout = layout_of<D>;

  product(const dense_weight<D>& weight, const linear_args& args, int threads)
      : weight_(weight), args_(args), threads_(threads), chunks_(layout::chunks(weight.in_features)) {
    end_.out_stride = args.out.stride[0];
    end_.bias = args.bias;
    end_.residual_stride = args.residual.stride[0];
    end_.activation = args.activation;
    end_.column_scales = weight.scales();
    end_.corrections = weight.corrections();
    const int64_t chunk_bytes = chunk_bytes_of_panel();
    stretch_ = std::max<int64_t>(1, std::min(chunks_, panel_stretch_bytes / chunk_bytes));
    stretches_ = (chunks_ + stretch_ - 1) / stretch_;
    stretch_ = (chunks_ + stretches_ - 1) / stretches_;  // evened out
  }

  int64_t row_bytes() const { return chunks_ * 64; }

  // At most this many rows at a time.
  int64_t portion_rows() const {
    return std::max<int64_t>(int64_t{tile_rows} * threads_, portion_bytes / row_bytes() / tile_rows * tile_rows);
  }

  // Rows [row, row + rows) of x. `packed` has room for rows * row_bytes() bytes, `scales` for as many floats, `sums`
  // for threads * sums_of_task() floats.
  void run(thread_pool* pool, int64_t row, int64_t rows, char* packed, float* scales, float* sums);

  static int64_t tiles_of_task(int64_t tile_bytes) { return std::max<int64_t>(1, block_bytes / tile_bytes); }
  int64_t sums_of_task() const { return tiles_of_task(tile_rows * stretch_ * 64) * tile_rows * panel_width; }

 private:
  static constexpr int64_t chunk_bytes_of_panel() { return int64_t{layout::chunk_units} * layout::step_bytes; }
  void pack_tile(const tiling& tiles, int64_t tile, int64_t row, char* packed, float* scales) const;
  void task(const tiling& tiles, int64_t first_tile, int64_t last_tile, int64_t panel, const char* packed,
            float* sums) const;

  const dense_weight<D>& weight_;
  const linear_args& args_;
  int threads_;
  epilogue end_{};
  int64_t chunks_;   // of k
  int64_t stretch_;  // chunks of k taken at once
  int64_t stretches_;
  static constexpr tiles<D> kernels_{};
};

template <class D>
void product<D>::pack_tile(const tiling& tiles, int64_t tile, int64_t row, char* packed, float* scales) const {
  const int64_t begin = tiles.begin(tile);
  const int rows = tiles.size(tile);
  const float* x = args_.x.as<const float>() + (row + begin) * args_.x.stride[0];
  for (int r = 0; r < rows; ++r, x += args_.x.stride[0])
    scales[begin + r] = pack_row<D>(x, weight_.in_features, rows, packed + begin * row_bytes() + r * 64);
}

template <class D>
void product<D>::task(const tiling& tiles, int64_t first_tile, int64_t last_tile, int64_t panel, const char* packed,
                      float* sums) const {
  tile_job job{};
  job.end = &end_;
  job.column = panel * panel_width;
  job.columns = static_cast<int>(std::min<int64_t>(panel_width, weight_.out_features - job.column));
  for (int64_t s = 0; s < stretches_; ++s) {
    const int64_t chunk = s * stretch_;
    job.first = s == 0;
    job.last = s == stretches_ - 1;
    job.panel = weight_.panel(panel) + chunk * chunk_bytes_of_panel();
    job.units =
        std::min(stretch_ * layout::chunk_units, layout::units(weight_.in_features) - chunk * layout::chunk_units);
    for (int64_t t = first_tile; t < last_tile; ++t) {
      const int rows = tiles.size(t);
      job.row = tiles.begin(t);
      job.sums = stretches_ == 1 ? sums : sums + (t - first_tile) * tile_rows * panel_width;
      job.x = packed + job.row * row_bytes() + chunk * rows * 64;
      kernels_.of[rows](job);
    }
  }
}

template <class D>
void product<D>::run(thread_pool* pool, int64_t row, int64_t rows, char* packed, float* scales, float* sums) {
  end_.out = args_.out.as<float>() + row * args_.out.stride[0];
  end_.residual = args_.residual ? args_.residual.as<const float>() + row * args_.residual.stride[0] : nullptr;
  end_.row_scales = scales;
  const tiling tiles(rows);
  const int64_t panels = weight_.num_panels();

  // Tiles a task: what the cache takes, but leave every thread several tasks.
  int64_t step = std::min(tiles.count, tiles_of_task(tile_rows * stretch_ * 64));
  const int64_t wanted_blocks = std::min(tiles.count, (4 * threads_ + panels - 1) / panels);
  step = std::min(step, (tiles.count + wanted_blocks - 1) / wanted_blocks);
  const int64_t blocks = (tiles.count + step - 1) / step;
  step = (tiles.count + blocks - 1) / blocks;

  const auto compute = [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i / panels * step;
      task(tiles, first, std::min(first + step, tiles.count), i % panels, packed, sums + worker * sums_of_task());
    }
  };
  if (!pool || threads_ == 1 || rows * row_bytes() <= serial_bytes) {
    for (int64_t t = 0; t < tiles.count; ++t) pack_tile(tiles, t, row, packed, scales);
    if (pool)
      pool->parallel_for(blocks * panels, 1, compute);
    else
      compute(0, blocks * panels, 0);
    return;
  }
  std::atomic<int64_t> next_tile{0}, tiles_packed{0}, next_task{0};
  pool->run([&](int worker) {
    for (int64_t t; (t = next_tile.fetch_add(1, std::memory_order_relaxed)) < tiles.count;) {
      pack_tile(tiles, t, row, packed, scales);
      tiles_packed.fetch_add(1, std::memory_order_release);
    }
    while (tiles_packed.load(std::memory_order_acquire) < tiles.count) std::this_thread::yield();
    for (int64_t i; (i = next_task.fetch_add(1, std::memory_order_relaxed)) < blocks * panels;)
      compute(i, i + 1, worker);
  });
}

template <class D>
void dense_weight<D>::multiply(exec& ex, const linear_args& args) const {
  const int64_t rows = args.x.dim(0);
  const int threads = ex.pool ? ex.pool->size() : 1;
  product<D> p(*this, args, threads);
  const int64_t portion = std::min(rows, p.portion_rows());
  arena::scope scope(ex.scratch);
  char* packed = ex.scratch.make<char>(portion * p.row_bytes());
  float* scales = ex.scratch.make<float>(portion);
  float* sums = ex.scratch.make<float>(threads * p.sums_of_task());
  for (int64_t row = 0; row < rows; row += portion)
    p.run(ex.pool, row, std::min(portion, rows - row), packed, scales, sums);
}

}  // namespace ft::cpu::FT_ISA
