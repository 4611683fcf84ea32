// Operations on rows and elements: every level against the reference on drawn shapes, strides and aliasings.
#include "backends/cpu/packed.h"
#include "ops/rowwise_problem.h"

namespace ft::test {
namespace {

std::vector<float> checked(guarded& out) {
  CHECK(out.intact());
  return out.values();
}

}  // namespace

TEST(activation_matches_reference) {
  compare_levels("activation", 60, {2e-7, 8e-7}, [](draw& d, dtype type) { return activation_problem(d, type, type); });
}

// The error of f(gate), 2e-7, is multiplied by up, which reaches 8.
TEST(gated_activation_matches_reference) {
  compare_levels("gated_activation", 60, {1.6e-6, 1e-6}, gated_activation_problem);
}

TEST(add_matches_reference) { compare_levels("add", 30, {0, 0}, add_problem); }

TEST(scale_matches_reference) {
  compare_levels("scale", 40, {1e-7, 1e-6}, [](draw& d, dtype type) { return scale_problem(d, type, type); });
}

TEST(gather_rows_matches_reference) {
  compare_levels("gather_rows", 30, {0, 0}, [](draw& d, dtype type) { return gather_rows_problem(d, type, type); });
}

TEST(log_softmax_matches_reference) { compare_levels("log_softmax", 40, {2e-6, 4e-7}, log_softmax_problem); }

// The bound follows from the sums over `width` terms in f32 by the kernels: about 64 partial sums keep it flat.
TEST(norm_matches_reference) { compare_levels("norm", 120, {3e-6, 3e-6}, norm_problem); }

// Cosines of angles of thousands of radians: the product is rounded to f32 first, so the angle is exact in both.
TEST(rotary_table_matches_reference) { compare_levels("rotary_table", 60, {1e-6, 1e-6}, rotary_table_problem); }

TEST(rotary_matches_reference) { compare_levels("rotary", 60, {1e-6, 1e-6}, rotary_problem); }

TEST(pool_matches_reference) { compare_levels("pool", 60, {1e-6, 1e-6}, pool_problem); }

TEST(log_softmax_keeps_banned_elements_banned) {
  for (auto& m : machines()) {
    std::vector<float> x(100, -INFINITY);
    x[3] = 2, x[99] = 2;
    const tensor view(x.data(), dtype::f32, {1, 100});
    ops::log_softmax(m->ex, {.out = view, .x = view});
    for (size_t i = 0; i < x.size(); ++i)
      CHECK_MSG(i == 3 || i == 99 ? std::fabs(x[i] + std::log(2.0f)) < 1e-6f : x[i] == -INFINITY, m->name());
  }
}

TEST(embedding_of_plain_tables_matches_reference) {
  compare_with_reference("embedding", 40, {1e-7, 2e-7}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
    const dtype type = d.one_of({dtype::f32, dtype::f16, dtype::bf16});
    std::vector<float> wide = d.normals(rows * width);
    std::vector<uint16_t> narrow;
    for (float v : wide) narrow.push_back(type == dtype::f16 ? from_float<f16>(v).bits : from_float<bf16>(v).bits);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    const int64_t first = d.coin() ? 0 : d.integer(1, 40);  // of a share: rows before and behind it are not there
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1 + 2 * first));
    std::vector<int32_t> chosen = choose_later(d, rows, ids);
    const guarded before = guarded({n, width}, gap).fill(d);
    const float factor = d.one_of({1.0f, 24.0f});
    const bool accumulate = d.coin();
    return [=](exec& ex) mutable {
      guarded out = before;
      void* table = type == dtype::f32 ? static_cast<void*>(wide.data()) : narrow.data();
      ops::embedding(ex, {.out = out.view(),
                          .ids = vector_of(ids),
                          .chosen = vector_of(chosen),
                          .table = tensor(table, type, {rows, width}),
                          .first_row = first,
                          .scale = factor,
                          .accumulate = accumulate});
      return checked(out);
    };
  });
}

TEST(embedding_of_packed_weights_matches_reference) {
  for (auto& m : machines())
    for (dtype type : {dtype::f32, dtype::bf16, dtype::f16}) {
      draw d(static_cast<uint64_t>(type) + 1);
      const int64_t rows = 37, width = 96, n = 50;
      std::vector<float> values = d.normals(rows * width);
      const tensor part(values.data(), dtype::f32, {rows, width});
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < n; ++i)
        ids.push_back(static_cast<int32_t>(d.integer(0, rows + 9)));  // some are not there
      const auto run = [&](machine& on) {
        const auto packed = pack(cpu::kernels_of(on.level), {part}, type);
        guarded out({n, width}, 3);
        ops::embedding(on.ex, {.out = out.view(), .ids = vector_of(ids), .packed = packed.get(), .first_row = 5});
        return checked(out);
      };
      expect_close(run(*m), run(reference()), {0, 0}, cat("embedding of packed ", name(type), ", ", m->name()));
    }
}

TEST(pool_of_zeros_is_zero) {
  const std::vector<int32_t> offsets{0, 2};
  for (auto& m : machines()) {
    guarded x = guarded({2, 20}).fill(0), out({1, 20});
    ops::pool(m->ex, {.out = out.view(), .x = x.view(), .row_offsets = vector_of(offsets), .normalize = true});
    for (float v : out.values()) CHECK_EQ(v, 0);
  }
}

// A row alone, and the same row among others on any number of threads, gives the same bits.
TEST(rows_do_not_depend_on_their_neighbours) {
  draw d(7);
  const int64_t rows = 70, width = 1000;
  const guarded x = guarded({rows, width}).fill(d);
  const std::vector<float> weight = d.normals(width), bias = d.normals(width);
  for (auto& m : machines()) {
    const auto run = [&](const tensor& in) {
      guarded normed({in.shape[0], width}), out({in.shape[0], width});
      ops::norm(m->ex, {.out = normed.view(), .x = in, .weight = weight.data(), .bias = bias.data()});
      ops::activation(m->ex, {.out = out.view(), .x = normed.view(), .kind = activation_kind::gelu});
      return out.values();
    };
    const std::vector<float> all = run(x.view());
    for (int64_t r : {int64_t{0}, int64_t{13}, rows - 1}) {
      const std::vector<float> alone = run(x.view().slice(0, r, r + 1));
      expect_same_bits(alone, {all.begin() + r * width, all.begin() + (r + 1) * width},
                       cat("row ", r, ", ", m->name()));
    }
  }
}

TEST(no_rows_are_no_work) {
  for (auto& m : machines()) {
    const tensor none(nullptr, dtype::f32, {0, 8});
    const std::vector<float> weight(8, 1.0f);
    ops::activation(m->ex, {.out = none, .x = none, .kind = activation_kind::silu});
    ops::norm(m->ex, {.out = none, .x = none, .weight = weight.data()});
    ops::add(m->ex, {.out = none, .a = none, .b = none});
  }
}

}  // namespace ft::test
