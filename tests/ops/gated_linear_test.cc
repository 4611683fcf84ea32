// gated_linear by its parts at every level, against sums in float64; and its contract.
#include "ops/gated_linear.h"

#include "ops/harness.h"
#include "ops/op_table.h"

namespace ft::test {
namespace {

double activated(activation_kind kind, double x) {
  switch (kind) {
    case activation_kind::none:
      return x;
    case activation_kind::relu:
      return std::max(x, 0.0);
    case activation_kind::gelu:
      return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
    case activation_kind::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case activation_kind::silu:
      return x / (1 + std::exp(-x));
    case activation_kind::tanh:
      return std::tanh(x);
  }
  return 0;
}

struct drawn_gate {
  explicit drawn_gate(draw& d)
      : rows(d.integer(0, 9)),
        in_features(d.integer(1, 90)),
        width(d.integer(1, 70)),
        x(guarded({rows, in_features}, d.integer(0, 3)).fill(d)),
        weight(guarded({2 * width, in_features}).fill(d, 1 / std::sqrt(static_cast<float>(in_features)))),
        gap(d.integer(0, 3)),
        kind(d.one_of({activation_kind::none, activation_kind::relu, activation_kind::gelu, activation_kind::gelu_tanh,
                       activation_kind::silu, activation_kind::tanh})) {
    if (d.coin()) bias = d.normals(2 * width);
  }

  double sum(int64_t row, int64_t feature) const {
    double s = bias.empty() ? 0 : bias[static_cast<size_t>(feature)];
    const float* a = x.view().as<float>() + row * x.view().stride[0];
    const float* b = weight.view().as<float>() + feature * in_features;
    for (int64_t i = 0; i < in_features; ++i) s += double{a[i]} * b[i];
    return s;
  }
  std::vector<float> exact() const {
    std::vector<float> out;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t f = 0; f < width; ++f)
        out.push_back(static_cast<float>(activated(kind, sum(row, f)) * sum(row, width + f)));
    return out;
  }
  std::vector<float> run(machine& on) const {
    const tensor whole = weight.view();
    const auto packed = pack(cpu::kernels_of(on.level), {whole}, dtype::f32);
    const cpu::cpu_bias added(bias);
    guarded out({rows, width}, gap);
    ops::gated_linear(on.ex, {.out = out.view(),
                              .x = x.view(),
                              .weight = packed.get(),
                              .bias = bias.empty() ? nullptr : &added,
                              .activation = kind});
    CHECK(out.intact());
    return out.values();
  }

  int64_t rows, in_features, width;
  guarded x, weight;
  int64_t gap;
  activation_kind kind;
  std::vector<float> bias;
};

}  // namespace

TEST(gated_linear_is_what_it_says) {
  for (uint64_t i = 0; i < 60; ++i) {
    draw d(i + 1);
    const drawn_gate drawn(d);
    const std::vector<float> want = drawn.exact();
    expect_close(drawn.run(reference()), want, {4e-6, 4e-6}, cat("draw ", i, ", reference"));
    for (auto& m : machines()) expect_close(drawn.run(*m), want, {1e-5, 1e-5}, cat("draw ", i, ", ", m->name()));
  }
}

// What nn did before there was this operation.
TEST(gated_linear_is_its_parts_to_the_bit) {
  draw d(7);
  const int64_t rows = 5, in_features = 48, width = 33;
  const guarded x = guarded({rows, in_features}).fill(d), weight = guarded({2 * width, in_features}).fill(d);
  const tensor whole = weight.view();
  for (auto& m : machines()) {
    const auto packed = pack(cpu::kernels_of(m->level), {whole}, dtype::f32);
    guarded both({rows, 2 * width}), want({rows, width}), got({rows, width});
    ops::linear(m->ex, {.out = both.view(), .x = x.view(), .weight = packed.get()});
    ops::gated_activation(m->ex, {.out = want.view(),
                                  .gate = both.view().slice(1, 0, width),
                                  .up = both.view().slice(1, width, 2 * width),
                                  .kind = activation_kind::silu});
    ops::gated_linear(m->ex,
                      {.out = got.view(), .x = x.view(), .weight = packed.get(), .activation = activation_kind::silu});
    expect_same_bits(got.values(), want.values(), m->name());
  }
}

TEST(gated_linear_contract) {
  draw d(1);
  const guarded x({2, 3}), out({2, 4}), weight = guarded({8, 3}).fill(d), odd = guarded({7, 3}).fill(d);
  const cpu::kernels& plain = cpu::kernels_of(cpu::isa_level::reference);
  const auto packed = pack(plain, {weight.view()}, dtype::f32), packed_odd = pack(plain, {odd.view()}, dtype::f32);
  const cpu::cpu_bias short_bias(std::vector<float>(7));
  const gated_linear_args right{.out = out.view(), .x = x.view(), .weight = packed.get()};
  const auto broken = [&](const char* text, auto change) {
    gated_linear_args a = right;
    change(a);
    CHECK_ERROR(FT_ERROR_INTERNAL, text, ops::gated_linear(reference().ex, a));
  };
  broken("gated_linear: weight is null", [](gated_linear_args& a) { a.weight = nullptr; });
  broken("gated_linear: weight has an odd", [&](gated_linear_args& a) { a.weight = packed_odd.get(); });
  broken("gated_linear: bias is not", [&](gated_linear_args& a) { a.bias = &short_bias; });
  broken("gated_linear: x has rank 1", [&](gated_linear_args& a) { a.x = tensor(x.view().data, dtype::f32, {3}); });
  broken("gated_linear: x has shape [2, 2], not [2, 3]", [](gated_linear_args& a) { a.x = a.x.slice(1, 0, 2); });
  broken("gated_linear: x is int32", [](gated_linear_args& a) { a.x.type = dtype::i32; });
  broken("gated_linear: out is float16, not float32", [](gated_linear_args& a) { a.out.type = dtype::f16; });
  broken("gated_linear: out has shape [1, 4], not [2, 4]", [](gated_linear_args& a) { a.out = a.out.slice(0, 0, 1); });
  broken("gated_linear: the last axis of out", [](gated_linear_args& a) { a.out.stride[1] = 2; });
}

}  // namespace ft::test
