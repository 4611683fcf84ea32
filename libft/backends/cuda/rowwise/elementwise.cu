// add and scale: one pass over memory.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

template <class T, int V>
struct add_vectors {
  row_view<const T> a, b;
  row_view<T> out;

  __device__ void operator()(int64_t row, int column) const {
    float x[V], y[V];
    load<V>(a.at(row, column), x);
    load<V>(b.at(row, column), y);
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] += y[i];
    store<V>(out.at(row, column), x);
  }
};

template <class X, class Out, int V>
struct scale_vector {
  row_view<const X> x;
  row_view<Out> out;
  float scale, softcap;

  __device__ void operator()(int64_t row, int column) const {
    float v[V];
    load<V>(x.at(row, column), v);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      v[i] *= scale;
      if (softcap > 0) v[i] = softcap * tanhf(v[i] / softcap);
    }
    store<V>(out.at(row, column), v);
  }
};

}  // namespace

void add(exec& ex, const add_args& a) {
  with_float(a.a.type, [&](auto element) {
    with_width(in_vectors({&a.a, &a.b, &a.out}), [&](auto v) {
      using T = decltype(element);
      launch_for_each<v.value>(
          ex, "add", a.a.shape[0], a.a.shape[1],
          add_vectors<T, v.value>{rows_of<const T>(a.a), rows_of<const T>(a.b), rows_of<T>(a.out)});
    });
  });
}

void scale(exec& ex, const scale_args& a) {
  with_float(a.x.type, [&](auto x) {
    with_float(a.out.type, [&](auto out) {
      with_width(in_vectors({&a.x, &a.out}), [&](auto v) {
        using X = decltype(x);
        using Out = decltype(out);
        launch_for_each<v.value>(
            ex, "scale", a.x.shape[0], a.x.shape[1],
            scale_vector<X, Out, v.value>{rows_of<const X>(a.x), rows_of<Out>(a.out), a.scale, a.softcap});
      });
    });
  });
}

}  // namespace ft::cuda
