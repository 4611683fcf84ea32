// The blocking of a product. Rows of x are cut into blocks whose packed form stays in the L2 cache; a task is one block
// times one panel. Every thread begins with a contiguous share of the tasks in block-major order, packs a block when it
// first meets it into memory of its own, and takes tasks from other shares when its own is done. So threads write to
// rows apart from each other, read each panel once a block, and wait for each other at the end only.
#pragma once

#include <atomic>

#include "backends/cpu/gemm/dense_weight.h"
#include "backends/cpu/gemm/tile.h"

namespace ft::cpu::FT_ISA {

// A stretch of k whose part of a panel stays in the L2 cache while tiles go by.
inline constexpr int64_t stretch_bytes = 256 << 10;
// A block's packed rows; a wide x takes more, so that a panel read from memory serves at least min_block_tiles.
inline constexpr int64_t block_bytes = 384 << 10;
inline constexpr int64_t min_block_tiles = 8;
// Fewer tiles than this a thread are multiplied by all threads together, each with panels of its own.
inline constexpr int64_t min_shared_tiles = 4;

// What one thread works with.
struct gemm_worker {
  alignas(64) std::atomic<int64_t> next;  // of its share of the tasks
  int64_t end;
  int64_t block;      // whose rows are packed, or -1
  char* packed;       // the block's tiles one after another
  float* row_scales;  // int8: of the block's rows
  float* sums;        // tile_job::sums of every tile of a block
};

template <class D>
class product {
 public:
  using layout = layout_of<D>;

  product(const dense_weight<D>& weight, const linear_args& args, int threads);
  void run(thread_pool* pool, arena& scratch);

 private:
  static constexpr int64_t chunk_bytes_of_panel = int64_t{layout::chunk_units} * layout::step_bytes;
  int64_t row_bytes() const { return chunks_ * 64; }
  int64_t tile_begin(int64_t tile) const { return rows_ * tile / tiles_; }  // tiles as even as can be
  int64_t block_begin(int64_t block) const { return tiles_ * block / blocks_; }

  void pack_block(int64_t block, gemm_worker& worker) const;
  void task(int64_t block, int64_t panel, gemm_worker& worker) const;
  void work(int first, gemm_worker* workers) const;

  const dense_weight<D>& weight_;
  const linear_args& args_;
  int threads_;
  epilogue end_{};
  int64_t rows_, tiles_, blocks_, panels_;
  int64_t chunks_;     // of k
  int64_t stretch_;    // chunks taken at once
  int64_t stretches_;  // how often
  static constexpr tiles<D> kernels_{};
};

template <class D>
product<D>::product(const dense_weight<D>& weight, const linear_args& args, int threads)
    : weight_(weight), args_(args), threads_(threads) {
  end_.out = args.out.as<float>();
  end_.out_stride = args.out.stride[0];
  end_.bias = values_of(args.bias);
  end_.residual = args.residual.as<const float>();
  end_.residual_stride = args.residual.stride[0];
  end_.activation = args.activation;
  end_.column_scales = weight.scales();
  end_.corrections = weight.corrections();

  chunks_ = layout::chunks(weight.in_features);
  stretches_ = (chunks_ * chunk_bytes_of_panel + stretch_bytes - 1) / stretch_bytes;
  stretch_ = (chunks_ + stretches_ - 1) / stretches_;
  stretches_ = (chunks_ + stretch_ - 1) / stretch_;

  rows_ = args.x.dim(0);
  tiles_ = (rows_ + tile_rows - 1) / tile_rows;
  panels_ = weight.num_panels();
  const int64_t block = std::max(min_block_tiles, block_bytes / (tile_rows * row_bytes()));
  blocks_ = (tiles_ + block - 1) / block;
  // A share should hold whole blocks, since a block that two threads meet is packed twice; but with few rows, a
  // weight read from memory by every thread costs more.
  if (tiles_ >= min_shared_tiles * threads_) blocks_ = (blocks_ + threads_ - 1) / threads_ * threads_;
}

template <class D>
void product<D>::pack_block(int64_t block, gemm_worker& worker) const {
  const int64_t first_row = tile_begin(block_begin(block));
  for (int64_t t = block_begin(block); t < block_begin(block + 1); ++t) {
    const int64_t begin = tile_begin(t);
    const int rows = static_cast<int>(tile_begin(t + 1) - begin);
    char* to = worker.packed + (begin - first_row) * row_bytes();
    for (int r = 0; r < rows; ++r) {
      const float* x = args_.x.as<const float>() + (begin + r) * args_.x.stride[0];
      const float scale = pack_row<D>(x, weight_.in_features, rows, to + r * 64);
      if (D::integer) worker.row_scales[begin - first_row + r] = scale;
    }
  }
  worker.block = block;
}

template <class D>
void product<D>::task(int64_t block, int64_t panel, gemm_worker& worker) const {
  if (worker.block != block) pack_block(block, worker);
  const int64_t first_row = tile_begin(block_begin(block));
  tile_job job{};
  job.end = &end_;
  job.column = panel * panel_width;
  job.columns = static_cast<int>(std::min<int64_t>(panel_width, weight_.out_features - job.column));
  for (int64_t s = 0; s < stretches_; ++s) {
    const int64_t chunk = s * stretch_;
    job.first = s == 0;
    job.last = s == stretches_ - 1;
    job.panel = weight_.panel(panel) + chunk * chunk_bytes_of_panel;
    job.units =
        std::min(stretch_ * layout::chunk_units, layout::units(weight_.in_features) - chunk * layout::chunk_units);
    job.sums = worker.sums;
    for (int64_t t = block_begin(block); t < block_begin(block + 1); ++t) {
      job.row = tile_begin(t);
      const int rows = static_cast<int>(tile_begin(t + 1) - job.row);
      job.x = worker.packed + (job.row - first_row) * row_bytes() + chunk * rows * 64;
      job.row_scales = worker.row_scales + (job.row - first_row);
      kernels_.of[rows](job);
      if (stretches_ > 1) job.sums += tile_rows * panel_width;
    }
  }
}

template <class D>
void product<D>::work(int first, gemm_worker* workers) const {
  for (int i = 0; i < threads_; ++i) {
    gemm_worker& share = workers[(first + i) % threads_];
    for (int64_t t; (t = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
      task(t / panels_, t % panels_, workers[first]);
  }
}

template <class D>
void product<D>::run(thread_pool* pool, arena& scratch) {
  if (rows_ == 0 || panels_ == 0) return;
  const int64_t block_tiles = (tiles_ + blocks_ - 1) / blocks_;
  const int64_t block_rows = block_tiles * ((rows_ + tiles_ - 1) / tiles_);
  gemm_worker* workers = scratch.make<gemm_worker>(threads_);
  for (int i = 0; i < threads_; ++i) {
    gemm_worker& w = *new (workers + i) gemm_worker{};
    w.next = blocks_ * panels_ * i / threads_;
    w.end = blocks_ * panels_ * (i + 1) / threads_;
    w.block = -1;
    w.packed = scratch.make<char>(block_rows * row_bytes());
    w.row_scales = scratch.make<float>(block_rows);
    w.sums = scratch.make<float>((stretches_ > 1 ? block_tiles : 1) * tile_rows * panel_width);
  }
  if (pool && threads_ > 1)
    pool->run([&](int worker) { work(worker, workers); });
  else
    work(0, workers);
}

template <class D>
void dense_weight<D>::multiply(exec& ex, const linear_args& args) const {
  arena::scope scope(ex.scratch);
  product<D>(*this, args, ex.pool ? ex.pool->size() : 1).run(ex.pool, ex.scratch);
}

}  // namespace ft::cpu::FT_ISA
