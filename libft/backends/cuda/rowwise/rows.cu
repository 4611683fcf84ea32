// gather_rows: rows by their numbers, converted on the way.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

template <class X, class Out, int V>
struct gather_vector {
  row_view<const X> x;
  row_view<Out> out;
  const int32_t* index;

  __device__ void operator()(int64_t row, int column) const {
    float v[V] = {};
    const int32_t from = index[row];
    if (from >= 0) load<V>(x.at(from, column), v);
    store<V>(out.at(row, column), v);
  }
};

}  // namespace

void gather_rows(exec& ex, const gather_rows_args& a) {
  with_float(a.x.type, [&](auto x) {
    with_float(a.out.type, [&](auto out) {
      with_width(in_vectors({&a.x, &a.out}), [&](auto v) {
        using X = decltype(x);
        using Out = decltype(out);
        launch_for_each<v.value>(
            ex, "gather_rows", a.out.shape[0], a.out.shape[1],
            gather_vector<X, Out, v.value>{rows_of<const X>(a.x), rows_of<Out>(a.out), a.index.as<int32_t>()});
      });
    });
  });
}

}  // namespace ft::cuda
