// Operations on rows and elements: the GPU against the reference on drawn shapes, dtypes, strides and aliasings.
#include "gpu/compare.h"
#include "ops/rowwise_problem.h"

namespace ft::test {
namespace {

// A result is computed in float32 and rounded once: half a unit in the last place, 2^-12 and 2^-9 of the value at its
// largest, and the difference of the reference's own result from the exact one, which decides some ties.
constexpr bounds exact{{0, 0}, {6e-8, 0x1p-11}, {1e-30, 0x1p-8}};
constexpr bounds activation_bounds{{4e-7, 2e-6}, {2e-6, 0x1p-11 * 1.01}, {2e-6, 0x1p-8 * 1.01}};
constexpr bounds norm_bounds{{4e-6, 4e-6}, {6e-5, 0x1p-10}, {6e-5, 0x1p-7}};
constexpr bounds float_results{{2e-6, 2e-6}, {2e-6, 2e-6}, {2e-6, 2e-6}};

// The same dtype for what is computed and for its result.
template <placed_problem (*Make)(draw&, dtype, dtype)>
placed_problem within(draw& d, dtype type) {
  return Make(d, type, type);
}

// From every dtype to `to`, whose rounding decides.
template <placed_problem (*Make)(draw&, dtype, dtype)>
void compare_conversions(const char* op, const bounds& b) {
  for (dtype to : all_types) {
    const bound limit = b.of(to);
    compare_with_reference(cat(op, " to ", name(to)).c_str(), 20, {limit, limit, limit},
                           [=](draw& d, dtype type) { return Make(d, type, to); });
  }
}

}  // namespace

TEST(activation) { compare_with_reference("activation", 60, activation_bounds, within<activation_problem>); }

TEST(gated_activation) {
  const bounds b{{3e-6, 2e-6}, {1e-5, 0x1p-11 * 1.01}, {1e-5, 0x1p-8 * 1.01}};
  compare_with_reference("gated_activation", 60, b, gated_activation_problem);
}

TEST(add) { compare_with_reference("add", 40, exact, add_problem); }

TEST(conversions) {
  compare_conversions<scale_problem>("scale", {{1e-6, 2e-6}, {2e-6, 0x1p-11 * 1.01}, {2e-6, 0x1p-8 * 1.01}});
  compare_conversions<activation_problem>("activation", activation_bounds);
  compare_conversions<gather_rows_problem>("gather_rows", exact);
}

TEST(log_softmax) {
  compare_with_reference("log_softmax", 40, {{6e-6, 4e-7}, {6e-6, 4e-7}, {6e-6, 4e-7}}, log_softmax_problem);
}

TEST(norm) { compare_with_reference("norm", 150, norm_bounds, norm_problem); }

TEST(rotary_table) { compare_with_reference("rotary_table", 30, float_results, rotary_table_problem); }

TEST(rotary) {
  const bounds b{{1e-6, 1e-6}, {1e-6, 0x1p-11 * 1.01}, {1e-6, 0x1p-8 * 1.01}};
  compare_with_reference("rotary", 80, b, rotary_problem);
}

TEST(pool) { compare_with_reference("pool", 60, float_results, pool_problem); }

TEST(log_softmax_keeps_banned_elements_banned) {
  place on(gpu(), false);
  guarded x = guarded({1, 3000}).fill(-INFINITY);
  int64_t n = 0;
  x.each([&](float& v) { v = n == 3 || n == 2999 ? 2.0f : v, ++n; });
  placed& t = on.put(x, dtype::f32);
  ops::log_softmax(on.ex, {.out = t.view(), .x = t.view()});
  const std::vector<float> values = t.values();
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(i == 3 || i == 2999 ? std::fabs(values[i] + std::log(2.0f)) < 1e-6f : values[i] == -INFINITY);
}

TEST(embedding_of_plain_tables) {
  // Of what is accumulated the terms reach 100 and may cancel.
  const bounds b{{8e-6, 4e-7}, {8e-6, 0x1p-11 * 1.01}, {8e-6, 0x1p-8 * 1.01}};
  compare_with_reference("embedding", 60, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
    const dtype stored = d.one_of(all_types);
    const guarded table = drawn(d, {rows, width}, stored);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    const int64_t first = d.coin() ? 0 : d.integer(1, 40);  // of a share: rows before and behind it are not there
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1 + 2 * first));
    const std::vector<int32_t> chosen = choose_later(d, rows, ids);
    const guarded before = rounded(guarded({n, width}, gap).fill(d), type);
    const float factor = d.one_of({1.0f, 24.0f});
    const bool accumulate = d.coin();
    return [=](place& on) {
      placed& out = on.put(before, type);
      ops::embedding(on.ex, {.out = out.view(),
                             .ids = on.put(ids),
                             .chosen = on.put(chosen),
                             .table = on.put(table, stored).view(),
                             .first_row = first,
                             .scale = factor,
                             .accumulate = accumulate});
      return out.values();
    };
  });
}

// One to three tables, packed or plain, with and without a norm, in rows from short to wider than a block takes.
TEST(embedding_sum) {
  const bounds b{{2e-5, 4e-6}, {8e-3, 0x1p-9}, {6e-2, 0x1p-6}};
  compare_with_reference("embedding_sum", 60, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t width = d.one_of<int64_t>({8, 64, 768, 1024, 4096, 8192, 8200, 1000, 33, d.integer(1, 300)});
    const int64_t n = d.integer(1, 40), count = d.integer(1, 3);
    struct table {
      guarded values;
      dtype stored;
      std::vector<int32_t> ids, chosen;
    };
    std::vector<table> tables;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t rows = d.integer(1, 50);
      const dtype stored = d.one_of(all_types);
      table t{drawn(d, {rows, width}, stored), stored, std::vector<int32_t>(static_cast<size_t>(n)), {}};
      for (int32_t& id : t.ids) id = static_cast<int32_t>(d.integer(0, rows - 1));
      if (i == 0) t.chosen = choose_later(d, rows, t.ids);
      tables.push_back(t);
    }
    norm_args norm{.epsilon = 1e-5f, .weight_offset = d.one_of({0.0f, 1.0f})};
    norm.kind = d.coin() ? norm_kind::layer : norm_kind::rms;
    const bool has_norm = d.coin(), has_bias = d.coin();
    const std::vector<float> weight = d.normals(width), bias = d.normals(width);
    const float scale = d.one_of({1.0f, 3.0f});
    const int64_t gap = d.one_of<int64_t>({0, 8, 3});
    return [=](place& on) {
      placed& out = on.put(guarded({n, width}, gap), type);
      embedding_sum_args a{.out = out.view()};
      for (size_t i = 0; i < tables.size(); ++i) {
        const table& t = tables[i];
        a.lookups[i] = {.ids = on.put(t.ids), .table = on.put(t.values, t.stored).view()};
        if (!t.chosen.empty()) a.lookups[i].chosen = on.put(t.chosen);
      }
      a.lookups[0].scale = scale;
      a.norm = norm;
      if (has_norm) a.norm.weight = on.put(weight);
      if (has_norm && has_bias) a.norm.bias = on.put(bias);
      ops::embedding_sum(on.ex, a);
      return out.values();
    };
  });
}

TEST(no_rows_are_no_work) {
  for (dtype type : all_types) {
    const tensor none(nullptr, type, {0, 8}), no_floats(nullptr, dtype::f32, {0, 8});
    const tensor no_heads(nullptr, type, {0, 2, 8}), no_integers(nullptr, dtype::i32, {0});
    place on(gpu(), false);
    const float* weight = on.put(std::vector<float>(8, 1.0f));
    ops::activation(on.ex, {.out = none, .x = none, .kind = activation_kind::silu});
    ops::gated_activation(on.ex, {.out = none, .gate = none, .up = none});
    ops::norm(on.ex, {.out = none, .x = none, .weight = weight});
    ops::add(on.ex, {.out = none, .a = none, .b = none});
    ops::scale(on.ex, {.out = none, .x = none});
    ops::gather_rows(on.ex, {.out = none, .x = none, .index = no_integers});
    ops::log_softmax(on.ex, {.out = no_floats, .x = no_floats});
    ops::rotary(on.ex, {.x = no_heads, .table = no_floats});
  }
}

}  // namespace ft::test
