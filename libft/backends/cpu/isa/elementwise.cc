// Operations that compute each element by itself: activation, gated_activation, add, scale, gather_rows.
#include <cstring>

#include "backends/cpu/isa/activate.h"
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"

namespace ft::cpu::FT_ISA {
namespace {

float* element(const tensor& t, int64_t row, int64_t column) { return t.as<float>() + row * t.stride[0] + column; }

constexpr int64_t cost_of(activation_kind kind) { return kind <= activation_kind::relu ? 1 : 4; }

}  // namespace

void activation(exec& ex, const activation_args& a) {
  with_activation(a.kind, [&](auto kind) {
    share_elements(ex, a.x.shape[0], a.x.shape[1], cost_of(a.kind), [&](int64_t row, int64_t column, int64_t n) {
      const float* x = element(a.x, row, column);
      float* out = element(a.out, row, column);
      for_vectors(n, [&](int64_t i, auto count) { store(out + i, activate<kind.value>(load(x + i, count)), count); });
    });
  });
}

void gated_activation(exec& ex, const gated_activation_args& a) {
  with_activation(a.kind, [&](auto kind) {
    share_elements(ex, a.gate.shape[0], a.gate.shape[1], cost_of(a.kind), [&](int64_t row, int64_t column, int64_t n) {
      const float* gate = element(a.gate, row, column);
      const float* up = element(a.up, row, column);
      float* out = element(a.out, row, column);
      for_vectors(n, [&](int64_t i, auto count) {
        store(out + i, activate<kind.value>(load(gate + i, count)) * load(up + i, count), count);
      });
    });
  });
}

void add(exec& ex, const add_args& args) {
  share_elements(ex, args.a.shape[0], args.a.shape[1], 1, [&](int64_t row, int64_t column, int64_t n) {
    const float* a = element(args.a, row, column);
    const float* b = element(args.b, row, column);
    float* out = element(args.out, row, column);
    for_vectors(n, [&](int64_t i, auto count) { store(out + i, load(a + i, count) + load(b + i, count), count); });
  });
}

void scale(exec& ex, const scale_args& a) {
  const float inverse_cap = a.softcap > 0 ? 1 / a.softcap : 0;
  share_elements(ex, a.x.shape[0], a.x.shape[1], a.softcap > 0 ? 4 : 1, [&](int64_t row, int64_t column, int64_t n) {
    const float* x = element(a.x, row, column);
    float* out = element(a.out, row, column);
    if (a.softcap > 0)
      for_vectors(n, [&](int64_t i, auto count) {
        store(out + i, a.softcap * tanh(load(x + i, count) * a.scale * inverse_cap), count);
      });
    else
      for_vectors(n, [&](int64_t i, auto count) { store(out + i, load(x + i, count) * a.scale, count); });
  });
}

void gather_rows(exec& ex, const gather_rows_args& a) {
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(a.out.shape[1]);
  share(ex, a.out.shape[0], a.out.shape[1], [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t from = a.index.as<int32_t>()[i];
      if (from < 0)
        std::memset(element(a.out, i, 0), 0, row_bytes);
      else
        std::memcpy(element(a.out, i, 0), element(a.x, from, 0), row_bytes);
    }
  });
}

}  // namespace ft::cpu::FT_ISA
