// Which products of some rows go to the kernel in some_rows_tiles.h, and how they are cut.
#include <algorithm>

#include "backends/cuda/gemm/some_rows/some_rows.h"
#include "backends/cuda/gemm/some_rows/tiles.h"

namespace ft::cuda {
namespace {

constexpr int64_t small_weight = int64_t{4} << 20;
constexpr int block_bytes = 226 * 1024;  // of shared memory

bool is_small(const cuda_weight& weight) { return weight.out_features * weight.in_features <= small_weight; }

// As many as there is room for, as are any use, and as have barriers: two at least, unless one holds all.
int stages_of(const row_cut& c, int64_t in_features, bool apart) {
  const int rows = c.row_groups * 64, stage = (c.features + rows) * c.slabs * slab_bytes;
  const int sums = apart ? 2 * rows * (c.features + sums_gap) * 4 : 0;
  const int64_t chunks = ceil_div(in_features, c.slabs * slab * c.parts);
  return static_cast<int>(std::min<int64_t>({(block_bytes - head_bytes - sums) / stage, chunks, most_ring_stages}));
}

// Small weights are there before the rows are: what counts is how soon a block has read its rows, 64 of them, and that
// takes more blocks, of few features or parts of the input features.
row_cut cut_of_small(const cuda_weight& weight, int64_t rows, int processors) {
  row_cut c{.row_groups = 1, .features = 32, .parts = 1, .slabs = 4};
  const int64_t row_tiles = ceil_div(rows, 64), slabs = ceil_div(weight.in_features, slab);
  const auto blocks = [&] { return ceil_div(weight.out_features, c.features) * row_tiles * c.parts; };
  if (blocks() > processors) c.features = 64;
  while (c.parts < 8 && 2 * blocks() <= processors && slabs / (2 * c.parts) >= 6) c.parts *= 2;
  c.sums_apart = c.parts > 1;
  c.stages = stages_of(c, weight.in_features, c.sums_apart);
  return c;
}

// Large ones are read in as few rounds of blocks as can be. A narrow tile reads more of x than of the weights: two
// blocks with half of the input features each take wider ones.
row_cut cut_of_large(const cuda_weight& weight, int64_t rows, int processors) {
  constexpr int widest = 224, narrow = 80;
  row_cut c{.row_groups = rows > 64 ? 2 : 1, .parts = 1, .slabs = 2, .sums_apart = false};
  const int64_t rounds = ceil_div(weight.out_features, int64_t{widest} * processors);
  if (weight.out_features < int64_t{narrow} * processors) c.parts = 2;
  const int64_t features = ceil_div(weight.out_features, processors / c.parts * rounds);
  c.features = static_cast<int>(std::max<int64_t>(64, ceil_div(features, 32) * 32));
  c.stages = stages_of(c, weight.in_features, false);
  if (c.stages < 3) {
    c.slabs = 1;
    c.stages = stages_of(c, weight.in_features, false);
  }
  return c;
}

some_rows_problem problem_of(const product& l) {
  some_rows_problem p{.out = l.out.data,
                      .residual = nullptr,
                      .bias = l.bias,
                      .out_stride = l.out.stride[0],
                      .residual_stride = 0,
                      .kind = l.activation,
                      .wide = l.out.type == dtype::f32,
                      .gated = l.gated,
                      .rows = static_cast<int>(l.x.dim(0)),
                      .out_features = static_cast<int>(l.out.dim(1)),
                      .in_features = static_cast<int>(l.weight.in_features)};
  if (l.residual) {
    p.residual = l.residual.data;
    p.residual_stride = l.residual.stride[0];
  }
  return p;
}

template <class T, int W>
void launch(exec& ex, const product& l, const row_cut& c) {
  const auto with = [&](auto features) { launch_row_tiles<T, W, features.value>(ex, problem_of(l), l.weight, l.x, c); };
  switch (c.features) {
    case 32:
      if constexpr (W == 1) return with(constant<32>{});
      break;
    case 64:
      return with(constant<64>{});
    case 96:
      return with(constant<96>{});
    case 128:
      return with(constant<128>{});
    case 160:
      return with(constant<160>{});
    case 192:
      return with(constant<192>{});
    case 224:
      return with(constant<224>{});
    default:
      break;
  }
  fail(FT_ERROR_INTERNAL, "linear: no kernel for tiles of ", W * 64, " rows and ", c.features, " features");
}

}  // namespace

// Beyond 64 rows cuBLASLt is as fast where blocks would have few input features each.
bool some_rows_take(const product& l) {
  constexpr int64_t most_features = 0x7fffffff - 1024;
  const cuda_weight& weight = l.weight;
  const int64_t rows = l.rows();
  if (!capabilities().warpgroup_products || l.x.type == dtype::f32) return false;
  if (weight.in_features > most_features || weight.out_features > most_features) return false;
  if (!in_vectors({&l.x, &l.out, &l.residual, &weight.values})) return false;
  if (is_small(weight)) return true;
  return weight.out_features >= 4096 && (rows <= 64 || weight.out_features >= 10240 || weight.in_features >= 8192);
}

void multiply_some_rows(exec& ex, const product& l) {
  const cuda_weight& weight = l.weight;
  const int processors = device_attribute(cudaDevAttrMultiProcessorCount);
  const int64_t rows = l.rows();
  const row_cut c = is_small(weight) ? cut_of_small(weight, rows, processors) : cut_of_large(weight, rows, processors);
  const auto launch_for = [&]<class T>(T) {
    return c.row_groups == 1 ? launch<T, 1>(ex, l, c) : launch<T, 2>(ex, l, c);
  };
  if (l.x.type == dtype::f16)
    launch_for(__half{});
  else
    launch_for(__nv_bfloat16{});
}

}  // namespace ft::cuda
