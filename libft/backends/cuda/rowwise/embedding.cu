// embedding: rows of a table, scaled, on top of what is there or in its place. embedding_sum: several tables' rows and
// the norm of their sum, which stays in registers in float32: a row is a block's, a vector of it a thread's.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device/weight.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int most_lookups = std::tuple_size_v<decltype(embedding_sum_args::lookups)>, most_threads = 1024;

struct lookup {
  const void* table;
  dtype type;
  int first_row, rows;  // of the whole table, and how many are here
  int64_t stride;
  const int32_t *ids, *chosen;
  float scale;

  // v += the row's elements from `column` on
  template <int V>
  __device__ void add_to(float (&v)[V], int64_t row, int column) const {
    int id = ids[row];
    if (id < 0) id = max(0, chosen[-1 - id]);
    id -= first_row;
    if (id < 0 || id >= rows) return;  // another rank's
    const int64_t at = id * stride + column;
    float t[V];
    if (type == dtype::f16)
      load<V>(static_cast<const __half*>(table) + at, t);
    else if (type == dtype::bf16)
      load<V>(static_cast<const __nv_bfloat16*>(table) + at, t);
    else
      load<V>(static_cast<const float*>(table) + at, t);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] += scale * t[i];
  }
};

struct lookups {
  lookup at[most_lookups];
  int count = 0;

  void add(const embedding_args& a, const tensor& table) {
    at[count++] = {
        table.data,      table.type,          static_cast<int>(a.first_row), static_cast<int>(table.shape[0]),
        table.stride[0], a.ids.as<int32_t>(), a.chosen.as<int32_t>(),        a.scale};
  }

  template <int V>
  __device__ void add_to(float (&v)[V], int64_t row, int column) const {
#pragma unroll
    for (int i = 0; i < most_lookups; ++i)
      if (i < count) at[i].add_to<V>(v, row, column);
  }
};

template <class Out, int V>
struct embed_vector {
  lookups from;
  row_view<Out> out;
  bool accumulate;

  __device__ void operator()(int64_t row, int column) const {
    float v[V] = {};
    if (accumulate) load<V>(static_cast<const Out*>(out.at(row, column)), v);
    from.add_to<V>(v, row, column);
    store<V>(out.at(row, column), v);
  }
};

template <class Out>
struct norm_of_sum {
  lookups from;
  row_view<Out> out;
  const float *weight, *bias;
  float epsilon, weight_offset;
  bool layer;
  int width;
};

template <class Out, int V>
__global__ void __launch_bounds__(most_threads) embed_and_norm(const norm_of_sum<Out> p) {
  __shared__ float partial[32];
  const int64_t row = blockIdx.x;
  const int column = threadIdx.x * V;
  const bool inside = column < p.width;
  float weight[V] = {}, bias[V] = {}, v[V] = {}, total = 0, squares = 0;
  if (inside) {
    load<V>(p.weight + column, weight);
    if (p.bias) load<V>(p.bias + column, bias);
  }
  await_previous_kernel();
  if (inside) p.from.template add_to<V>(v, row, column);
#pragma unroll
  for (int i = 0; i < V; ++i) total += v[i];
  const float mean = p.layer ? block_reduce(total, add_up{}, 0, partial) / p.width : 0;
  if (inside) {
#pragma unroll
    for (int i = 0; i < V; ++i) squares += (v[i] - mean) * (v[i] - mean);
  }
  const float scale = rsqrtf(block_reduce(squares, add_up{}, 0, partial) / p.width + p.epsilon);
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < V; ++i) v[i] = (v[i] - mean) * scale * (weight[i] + p.weight_offset) + bias[i];
  store<V>(p.out.at(row, column), v);
}

tensor table_of(const embedding_args& a) { return a.packed ? on_gpu(*a.packed).values : a.table; }

void embed(exec& ex, const lookups& from, const tensor& out, bool accumulate, bool wide) {
  with_float(out.type, [&](auto element) {
    with_width(wide, [&](auto v) {
      using Out = decltype(element);
      launch_for_each<v.value>(ex, "embedding", out.shape[0], out.shape[1],
                               embed_vector<Out, v.value>{from, rows_of<Out>(out), accumulate});
    });
  });
}

}  // namespace

void embedding(exec& ex, const embedding_args& a) {
  const tensor table = table_of(a);
  lookups from;
  from.add(a, table);
  embed(ex, from, a.out, a.accumulate, in_vectors({&table, &a.out}));
}

void embedding_sum(exec& ex, const embedding_sum_args& a) {
  if (a.out.size() == 0) return;
  lookups from;
  bool wide = in_vectors({&a.out});
  for (const embedding_args& one : a.lookups) {
    if (!one.ids) continue;
    const tensor table = table_of(one);
    from.add(one, table);
    wide = wide && in_vectors({&table});
  }
  if (!a.norm.weight) return embed(ex, from, a.out, false, wide);
  norm_args n = a.norm;
  const bool vectors = wide && in_vectors(n.weight) && in_vectors(n.bias);
  const int64_t width = a.out.shape[1], threads = ceil_div(width, (vectors ? vector_width : 1) * 32) * 32;
  if (threads > most_threads) {
    embed(ex, from, a.out, false, wide);
    n.x = n.out = a.out;
    return norm(ex, n);
  }
  with_float(a.out.type, [&](auto element) {
    with_width(vectors, [&](auto v) {
      using Out = decltype(element);
      launch_kernel(ex, "embedding_sum", {grid_size(a.out.shape[0], "embedding_sum"), static_cast<unsigned>(threads)},
                    embed_and_norm<Out, v.value>,
                    norm_of_sum<Out>{from, rows_of<Out>(a.out), n.weight, n.bias, n.epsilon, n.weight_offset,
                                     n.kind == norm_kind::layer, static_cast<int>(width)});
    });
  });
}

}  // namespace ft::cuda
