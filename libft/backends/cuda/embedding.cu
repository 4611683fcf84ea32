// embedding: rows of a table, scaled, on top of what is there or in its place.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/weight.h"

namespace ft::cuda {
namespace {

template <class Table, class Out, int V>
struct embed_vector {
  row_view<const Table> table;
  row_view<Out> out;
  const int32_t* ids;
  const int32_t* chosen;
  float scale;
  bool accumulate;

  __device__ void operator()(int64_t row, int column) const {
    float v[V], before[V] = {};
    int id = ids[row];
    if (id < 0) id = max(0, chosen[-1 - id]);
    load<V>(table.at(id, column), v);
    if (accumulate) load<V>(static_cast<const Out*>(out.at(row, column)), before);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = scale * v[i] + before[i];
    store<V>(out.at(row, column), v);
  }
};

}  // namespace

void embedding(exec& ex, const embedding_args& a) {
  const tensor table = a.packed ? on_gpu(*a.packed).values : a.table;
  with_float(table.type, [&](auto element) {
    with_float(a.out.type, [&](auto out) {
      with_width(in_vectors({&table, &a.out}), [&](auto v) {
        using Table = decltype(element);
        using Out = decltype(out);
        launch_for_each<v.value>(
            ex, "embedding", a.out.shape[0], a.out.shape[1],
            embed_vector<Table, Out, v.value>{rows_of<const Table>(table), rows_of<Out>(a.out), a.ids.as<int32_t>(),
                                              a.chosen.as<int32_t>(), a.scale, a.accumulate});
      });
    });
  });
}

}  // namespace ft::cuda
