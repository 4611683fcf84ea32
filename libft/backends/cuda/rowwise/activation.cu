// activation and gated_activation: one pass over memory, computed in float32 whatever the dtypes.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/activate.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

template <class X, class Out, int V>
struct activate_vector {
  row_view<const X> x;
  row_view<Out> out;
  activation_kind kind;

  __device__ void operator()(int64_t row, int column) const {
    float v[V];
    load<V>(x.at(row, column), v);
    activate<V, Out>(kind, v);
    store<V>(out.at(row, column), v);
  }
};

template <class T, int V>
struct gate_vector {
  row_view<const T> gate, up;
  row_view<T> out;
  activation_kind kind;

  __device__ void operator()(int64_t row, int column) const {
    float g[V], u[V];
    load<V>(gate.at(row, column), g);
    load<V>(up.at(row, column), u);
    activate<V, T>(kind, g);
#pragma unroll
    for (int i = 0; i < V; ++i) g[i] *= u[i];
    store<V>(out.at(row, column), g);
  }
};

}  // namespace

void activation(exec& ex, const activation_args& a) {
  with_float(a.x.type, [&](auto x) {
    with_float(a.out.type, [&](auto out) {
      with_width(in_vectors({&a.x, &a.out}), [&](auto v) {
        using X = decltype(x);
        using Out = decltype(out);
        launch_for_each<v.value>(ex, "activation", a.x.shape[0], a.x.shape[1],
                                 activate_vector<X, Out, v.value>{rows_of<const X>(a.x), rows_of<Out>(a.out), a.kind});
      });
    });
  });
}

void gated_activation(exec& ex, const gated_activation_args& a) {
  with_float(a.gate.type, [&](auto element) {
    with_width(in_vectors({&a.gate, &a.up, &a.out}), [&](auto v) {
      using T = decltype(element);
      launch_for_each<v.value>(
          ex, "gated_activation", a.gate.shape[0], a.gate.shape[1],
          gate_vector<T, v.value>{rows_of<const T>(a.gate), rows_of<const T>(a.up), rows_of<T>(a.out), a.kind});
    });
  });
}

}  // namespace ft::cuda
