// gated_linear: the GPU against the reference, for every kernel that gates by itself and for linear with a pass that
// gates.
#include "gpu/compare.h"

namespace ft::test {
namespace {

// Products of two sums of about 1. Where a pass of its own gates, both were rounded, and with a bias gate's twice.
constexpr bounds gated_bounds{{2e-4, 4e-5}, {3e-2, 0x1p-9}, {2e-1, 0x1p-6}};

constexpr auto all_activations = {activation_kind::none,      activation_kind::relu, activation_kind::gelu,
                                  activation_kind::gelu_tanh, activation_kind::silu, activation_kind::tanh};

struct drawn_gate {
  drawn_gate(draw& d, dtype type, int64_t rows, int64_t in_features, int64_t width)
      : type(type),
        x(rounded(guarded({rows, in_features}, d.one_of<int64_t>({0, 0, 8, 1})).fill(d), type)),
        weight(
            rounded(guarded({2 * width, in_features}).fill(d, 1 / std::sqrt(static_cast<float>(in_features))), type)),
        gap(d.one_of<int64_t>({0, 0, 8, 1})),
        kind(d.one_of(all_activations)) {
    if (d.coin()) bias = d.normals(2 * width);
  }

  std::vector<float> run(place& on) const {
    placed& in = on.put(x, type);
    placed& out = on.put(guarded({x.view().dim(0), weight.view().dim(0) / 2}, gap), type);
    ops::gated_linear(on.ex, {.out = out.view(),
                              .x = in.view(),
                              .weight = on.pack(weight.view(), type),
                              .bias = on.pack_bias(bias, type),
                              .activation = kind});
    in.values();
    return out.values();
  }

  dtype type;
  guarded x, weight;
  int64_t gap;
  activation_kind kind;
  std::vector<float> bias;
};

void compare(int draws, const std::function<drawn_gate(draw&, dtype)>& make) {
  compare_with_reference("gated_linear", draws, gated_bounds, [&](draw& d, dtype type) -> placed_problem {
    return [drawn = make(d, type)](place& on) { return drawn.run(on); };
  });
}

int64_t some_rows(draw& d) {
  return d.one_of<int64_t>({1, 2, 8, 9, 16, 17, 25, 32, 33, 64, 65, 127, 128, 129, d.integer(1, 130)});
}

}  // namespace

TEST(gated_linear) {
  compare(100, [](draw& d, dtype type) {
    const int64_t rows = some_rows(d), in_features = d.one_of<int64_t>({1, 7, 8, 64, 72, 576, d.integer(1, 300)});
    return drawn_gate(d, type, rows, in_features, d.one_of<int64_t>({1, 2, 7, 8, 100, 128, 500, d.integer(1, 300)}));
  });
}

// In whole vectors of input features: every number of rows, over widths that fill a block's half or just miss it.
TEST(gated_linear_of_each_number_of_rows) {
  draw shapes(run_seed());
  for (int64_t rows = 1; rows <= 130; ++rows) {
    const int64_t in_features = 8 * shapes.one_of<int64_t>({1, 8, 9, 65, shapes.integer(1, 100)});
    const int64_t width = shapes.one_of<int64_t>({7, 8, 9, 15, 16, 17, 511, 512, 513, shapes.integer(1, 600)});
    compare(1, [=](draw& d, dtype type) { return drawn_gate(d, type, rows, in_features, width); });
  }
}

// What the kernel for some rows takes: outputs in whole vectors too, and input features that are cut in parts or not.
TEST(gated_linear_of_some_rows) {
  compare(40, [](draw& d, dtype type) {
    const int64_t rows = d.one_of<int64_t>({33, 63, 64, 65, 127, 128, d.integer(33, 128)});
    const int64_t in_features = 8 * d.one_of<int64_t>({1, 8, 24, 96, 97, d.integer(1, 160), d.integer(300, 500)});
    return drawn_gate(d, type, rows, in_features, 8 * d.one_of<int64_t>({1, 2, 3, 4, d.integer(1, 120)}));
  });
}

// So large that blocks come in several waves, or have as many features as can be.
TEST(gated_linear_of_large_weights) {
  compare(8, [](draw& d, dtype type) {
    const auto [rows, in_features, width] = d.one_of<std::array<int64_t, 3>>({{1, 1032, 5200},
                                                                              {31, 1032, 5200},
                                                                              {8, 4096, 3000},
                                                                              {40, 4096, 3000},
                                                                              {17, 72, 20003},
                                                                              {64, 264, 14344},
                                                                              {100, 136, 16904},
                                                                              {128, 136, 17000}});
    return drawn_gate(d, type, rows, in_features, width);
  });
}

// A row's result is the same whatever rows are beside it.
TEST(few_gated_rows_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  const int64_t in_features = 2056, width = 1052;  // a smaller matrix has another kernel for one row
  for (dtype type : {dtype::f16, dtype::bf16}) {
    place on(gpu(), false);
    const packed_weight* weight = on.pack(rounded(guarded({2 * width, in_features}).fill(d), type).view(), type);
    const tensor x = on.put(rounded(guarded({32, in_features}).fill(d, 0.02f), type), type).view();
    const auto run = [&](int64_t begin, int64_t end) {
      placed& out = on.put(guarded({end - begin, width}), type);
      ops::gated_linear(
          gpu(),
          {.out = out.view(), .x = x.slice(0, begin, end), .weight = weight, .activation = activation_kind::silu});
      return out.values();
    };
    const std::vector<float> together = run(0, 32);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {31, 32}, {0, 2}, {5, 13}, {9, 25}, {8, 32}})
      expect_same_bits(run(begin, end), {together.begin() + begin * width, together.begin() + end * width},
                       cat("rows ", begin, " to ", end));
  }
}

}  // namespace ft::test
