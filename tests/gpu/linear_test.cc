// linear and the embedding of packed weights: the GPU against the reference, and rows against the same rows among
// others.
#include "gpu/compare.h"

namespace ft::test {
namespace {

// Sums of up to 5000 products with weights that keep them about 1. Beyond a few rows bias, activation and residual are
// added to a sum that was rounded.
constexpr bounds linear_bounds{{2e-5, 1e-5}, {4e-3, 0x1p-10}, {3e-2, 0x1p-7}};

constexpr auto all_activations = {activation_kind::none, activation_kind::none,      activation_kind::relu,
                                  activation_kind::gelu, activation_kind::gelu_tanh, activation_kind::silu,
                                  activation_kind::tanh};

struct drawn_linear {
  drawn_linear(draw& d, dtype type, int64_t rows, int64_t in_features, int64_t out_features)
      : type(type),
        x(rounded(guarded({rows, in_features}, d.one_of<int64_t>({0, 0, 8, 1})).fill(d), type)),
        weight(rounded(guarded({out_features, in_features}).fill(d, 1 / std::sqrt(static_cast<float>(in_features))),
                       type)),
        out_type(d.coin() ? type : dtype::f32),
        gap(d.one_of<int64_t>({0, 0, 8, 1})),
        kind(d.one_of(all_activations)),
        add_to_out(d.coin()) {
    if (d.coin()) bias = d.normals(out_features);
    if (d.coin()) residual = rounded(guarded({rows, out_features}, gap).fill(d), out_type);
  }

  std::vector<float> run(place& on) const {
    placed& in = on.put(x, type);
    placed& added = on.put(residual ? *residual : guarded({1, 1}), out_type);
    placed& out =
        residual && add_to_out ? added : on.put(guarded({x.view().dim(0), weight.view().dim(0)}, gap), out_type);
    linear_args a{.out = out.view(), .x = in.view(), .weight = on.pack(weight.view(), type), .activation = kind};
    a.bias = on.pack_bias(bias, type);
    if (residual) a.residual = added.view();
    ops::linear(on.ex, a);
    in.values();
    return out.values();
  }

  dtype type;
  guarded x, weight;
  dtype out_type;
  int64_t gap;
  activation_kind kind;
  bool add_to_out;  // the residual is the output
  std::vector<float> bias;
  std::optional<guarded> residual;
};

int64_t some_rows(draw& d) { return d.one_of<int64_t>({1, 2, 3, 8, 9, 16, 17, 24, 25, 32, 33, 64, d.integer(1, 40)}); }
int64_t some_features(draw& d) {
  return d.one_of<int64_t>({1, 2, 7, 8, 16, 40, 64, 72, 100, 128, 576, 1000, 1544, d.integer(1, 300)});
}

}  // namespace

TEST(linear) {
  compare_with_reference("linear", 150, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), in_features = some_features(d), out_features = some_features(d);
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

// So many features that blocks come in several waves, and input features that every block meets several times.
TEST(linear_of_large_weights) {
  compare_with_reference("linear", 8, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const auto [in_features, out_features] =
        d.one_of<std::pair<int64_t, int64_t>>({{264, 9000}, {72, 30000}, {5000, 300}, {2056, 1500}});
    const drawn_linear drawn(d, type, some_rows(d), in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

// Every number of few rows, over heights and widths that fill a cut (blocks, clusters, chunks) or just miss it.
TEST(linear_of_each_number_of_few_rows) {
  draw heights(run_seed());
  for (int64_t rows = 1; rows <= 33; ++rows) {
    const int64_t in_features = 8 * heights.one_of<int64_t>({1, 8, 9, 65, 130, heights.integer(1, 160)});
    const int64_t out_features = heights.one_of<int64_t>({15, 16, 17, 1023, 2113, heights.integer(1, 1500)});
    compare_with_reference("linear", 1, linear_bounds, [=](draw& d, dtype type) -> placed_problem {
      const drawn_linear drawn(d, type, rows, in_features, out_features);
      return [=](place& on) { return drawn.run(on); };
    });
  }
}

// Rows and features that our own product of many rows takes, in tiles of each width, or just misses: ragged in every
// direction, few and many input features.
TEST(linear_of_many_rows) {
  compare_with_reference("linear", 16, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = d.one_of<int64_t>({640, 897, 1000, 1025, d.integer(500, 1500)});
    const int64_t in_features = 8 * d.one_of<int64_t>({1, 8, 9, 16, d.integer(1, 25)});
    const int64_t out_features = 8 * d.one_of<int64_t>({64, 96, 125, 193, d.integer(60, 200)});
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

// More stages than the ring has, in more tiles than there are multiprocessors.
TEST(linear_of_many_rows_and_inputs) {
  compare_with_reference("linear", 2, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const drawn_linear drawn(d, type, 2040, 520, d.one_of<int64_t>({1528, 2304}));
    return [=](place& on) { return drawn.run(on); };
  });
}

// More rows than the kernels for few take, in whole vectors: every way to cut the features and the input features of
// small weights (few or many of either), and of large ones.
TEST(linear_of_some_rows) {
  compare_with_reference("linear", 60, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = d.one_of<int64_t>({33, 63, 64, 65, 127, 128, d.integer(33, 128)});
    const int64_t in_features = 8 * d.one_of<int64_t>({1, 8, 24, 96, 97, d.integer(1, 160), d.integer(300, 500)});
    const int64_t out_features = 8 * d.one_of<int64_t>({1, 4, 5, d.integer(1, 120), d.integer(1, 120)});
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
  compare_with_reference("linear", 4, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const auto [rows, in_features, out_features] = d.one_of<std::array<int64_t, 3>>(
        {{40, 1032, 4104}, {35, 712, 6008}, {101, 520, 10248}, {66, 424, 10568}, {33, 152, 30008}});
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

// A row's sums run in one order, whatever rows are beside it.
TEST(some_rows_do_not_depend_on_when_they_are_computed) {
  draw d(run_seed());
  const int64_t rows = 100, in_features = 3072, out_features = 768;  // the input features are cut in parts
  const drawn_linear all(d, dtype::f16, rows, in_features, out_features);
  place on(gpu(), false);
  const packed_weight* weight = on.pack(all.weight.view(), dtype::f16);
  const tensor x = on.put(all.x, dtype::f16).view();
  const auto run = [&] {
    placed& out = on.put(guarded({rows, out_features}), dtype::f16);
    ops::linear(on.ex, {.out = out.view(), .x = x, .weight = weight});
    return out.values();
  };
  const std::vector<float> first = run();
  for (int i = 0; i < 10; ++i) expect_same_bits(run(), first, cat("run ", i));
}

TEST(few_rows_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  for (dtype type : {dtype::f16, dtype::bf16}) {
    const int64_t in_features = 2056, out_features = 2100;  // a smaller matrix has another kernel for one row
    place on(gpu(), false);
    const packed_weight* weight = on.pack(rounded(guarded({out_features, in_features}).fill(d), type).view(), type);
    // With no gaps: rows that are not aligned go to another kernel, but one row alone does not.
    const tensor x = on.put(rounded(guarded({32, in_features}).fill(d), type), type).view();
    const auto run = [&](int64_t begin, int64_t end) {
      placed& out = on.put(guarded({end - begin, out_features}), type);
      ops::linear(on.ex, {.out = out.view(), .x = x.slice(0, begin, end), .weight = weight});
      return out.values();
    };
    const std::vector<float> together = run(0, 32);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 1}, {31, 32}, {0, 2}, {5, 13}, {9, 25}, {8, 32}})
      expect_same_bits(run(begin, end),
                       {together.begin() + begin * out_features, together.begin() + end * out_features},
                       cat("rows ", begin, " to ", end));
  }
}

TEST(embedding_of_packed_weights) {
  const bounds b{{1e-7, 4e-7}, {6e-8, 0x1p-11 * 1.01}, {1e-7, 0x1p-8 * 1.01}};
  compare_with_reference("embedding", 20, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_features(d), width = some_features(d), n = some_rows(d);
    const guarded table = rounded(guarded({rows, width}).fill(d), type);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1));
    return [=](place& on) {
      placed& out = on.put(guarded({n, width}, 8), type);
      ops::embedding(on.ex, {.out = out.view(), .ids = on.put(ids), .packed = on.pack(table.view(), type)});
      return out.values();
    };
  });
}

}  // namespace ft::test
