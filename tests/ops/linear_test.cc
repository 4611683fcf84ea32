// linear at every instruction-set level against the reference: drawn shapes, strides, stacked parts and epilogues, to
// stated error bounds; and, to the bit, that a row's result depends on nothing but the row.
#include "ops/linear.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <random>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"
#include "check.h"
#include "core/half.h"
#include "ops/pack.h"

namespace ft {
namespace {

using cpu::isa_level;

const dtype compute_dtypes[] = {dtype::f32, dtype::f16, dtype::bf16, dtype::i8};

std::vector<isa_level> fast_levels() {
  std::vector<isa_level> levels = cpu::available_levels();
  levels.erase(levels.begin());
  return levels;
}

// A matrix in memory of its own, in any dtype, alignment and strides.
struct matrix {
  std::vector<char> bytes;
  tensor view;

  matrix(dtype type, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride, int misalignment) {
    const int64_t span = rows && columns ? (rows - 1) * row_stride + (columns - 1) * column_stride + 1 : 0;
    bytes.resize(bytes_of(type, span) + 64 + static_cast<size_t>(misalignment));
    view.type = type;
    view.rank = 2;
    view.shape = {rows, columns};
    view.stride = {row_stride, column_stride};
    char* start = bytes.data();
    start += -reinterpret_cast<uintptr_t>(start) % 64;
    view.data = start + misalignment;
  }
  matrix(dtype type, int64_t rows, int64_t columns) : matrix(type, rows, columns, columns, 1, 0) {}

  char* at(int64_t r, int64_t c) const {
    return view.as<char>() + (r * view.stride[0] + c * view.stride[1]) * traits(view.type).block_bytes;
  }
  float get(int64_t r, int64_t c) const {
    uint16_t half;
    float value;
    if (view.type == dtype::f32) return std::memcpy(&value, at(r, c), 4), value;
    std::memcpy(&half, at(r, c), 2);
    return view.type == dtype::f16 ? to_float(f16{half}) : to_float(bf16{half});
  }
  void set(int64_t r, int64_t c, float value) {
    if (view.type == dtype::f32) {
      std::memcpy(at(r, c), &value, 4);
      return;
    }
    const uint16_t half = view.type == dtype::f16 ? from_float<f16>(value).bits : from_float<bf16>(value).bits;
    std::memcpy(at(r, c), &half, 2);
  }
  template <class Generator>
  void fill(Generator& random, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    for (int64_t r = 0; r < view.dim(0); ++r)
      for (int64_t c = 0; c < view.dim(1); ++c) set(r, c, normal(random));
  }
};

struct run_options {
  const float* bias = nullptr;
  activation_kind activation = activation_kind::none;
  tensor residual;
};

void run_linear(const cpu::kernels& k, thread_pool* pool, const packed_weight& weight, const tensor& x,
                const tensor& out, const run_options& options = {}) {
  arena scratch(host_memory());
  exec ex{cpu_backend(), k.ops, scratch, pool};
  linear_args args;
  args.out = out;
  args.x = x;
  args.weight = &weight;
  std::optional<cpu::cpu_bias> bias;
  if (options.bias) args.bias = &bias.emplace(std::span(options.bias, static_cast<size_t>(weight.out_features)));
  args.activation = options.activation;
  args.residual = options.residual;
  k.ops.linear(ex, args);
}

constexpr float guard = -12345.0f;

// An output whose rows have a stride of `columns` + 3, filled with NaN where results belong and guards elsewhere.
struct guarded_output {
  std::vector<float> values;
  tensor view;
  guarded_output(int64_t rows, int64_t columns) : values(static_cast<size_t>((rows + 2) * (columns + 3)), guard) {
    view = tensor(values.data() + columns + 3, dtype::f32, {rows, columns});
    view.stride[0] = columns + 3;
    for (int64_t r = 0; r < rows; ++r)
      std::fill_n(view.as<float>() + r * view.stride[0], columns, std::numeric_limits<float>::quiet_NaN());
  }
  bool guards_hold() const {
    const int64_t stride = view.stride[0];
    for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
      const int64_t row = i / stride - 1, column = i % stride;
      const bool inside = row >= 0 && row < view.dim(0) && column < view.dim(1);
      if (!inside && values[static_cast<size_t>(i)] != guard) return false;
    }
    return true;
  }
  float get(int64_t r, int64_t c) const { return view.as<const float>()[r * view.stride[0] + c]; }
};

// Σ |x_k w_k|, which rounding errors are proportional to.
double magnitude(const matrix& x, int64_t row, const std::vector<float>& w) {
  double sum = 0;
  for (size_t k = 0; k < w.size(); ++k) sum += std::fabs(double{x.get(row, static_cast<int64_t>(k))} * w[k]);
  return sum;
}

// The error allowed per Σ|x w|: f32 sums round once a term (2^-24 each, growing as √k for random signs; 4 √k covers the
// tails of all draws); the bf16 instruction also rounds x, 2^-8, and drops subnormals; int8 sums are exact and round in
// the scaling alone, but a draw may sit on a rounding boundary of its scale, never seen to differ between levels since
// all compute the scale alike.
double allowed(dtype compute, isa_level level, int64_t k) {
  const double sums = 4 * std::sqrt(static_cast<double>(k) + 1) * 0x1p-24;
  if (compute == dtype::bf16 && level == isa_level::avx512_bf16) return sums + 0x1p-8;
  return sums;
}

struct drawn_case {
  int64_t m, n, k;
  std::vector<matrix> parts;
  matrix x;
  matrix bias;
  matrix residual;
  run_options options;
};

template <class Generator>
drawn_case draw(Generator& random, bool large) {
  const auto between = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const int64_t m = between(1, 40), k = large ? between(500, 5000) : between(1, 300);
  std::vector<matrix> parts;
  int64_t n = 0;
  for (int64_t p = between(1, 3); p > 0; --p) {
    const dtype types[] = {dtype::f32, dtype::f16, dtype::bf16};
    const int64_t rows = between(1, large ? 70 : 110);
    const bool transposed = between(0, 5) == 0;
    const int64_t pad = between(0, 2) ? 0 : between(1, 9);
    parts.emplace_back(types[between(0, 2)], rows, k, transposed ? 1 : k + pad, transposed ? rows + pad : 1,
                       static_cast<int>(between(0, 3)));
    parts.back().fill(random, 0.3f);
    n += rows;
  }
  drawn_case c{m,
               n,
               k,
               std::move(parts),
               matrix(dtype::f32, m, k, k + between(0, 5), 1, 0),
               matrix(dtype::f32, 1, n),
               matrix(dtype::f32, m, n, n + between(0, 5), 1, 0),
               {}};
  c.x.fill(random);
  c.bias.fill(random);
  c.residual.fill(random);
  if (between(0, 1)) c.options.bias = c.bias.view.as<float>();
  if (between(0, 1)) c.options.residual = c.residual.view;
  c.options.activation = static_cast<activation_kind>(between(0, 5));
  return c;
}

std::vector<tensor> views(const std::vector<matrix>& parts) {
  std::vector<tensor> list;
  for (const matrix& part : parts) list.push_back(part.view);
  return list;
}

void compare_with_reference(const drawn_case& c, dtype compute, thread_pool* pool) {
  const cpu::kernels& reference = cpu::kernels_of(isa_level::reference);
  const auto expected_weight = test::pack(reference, views(c.parts), compute);
  guarded_output expected(c.m, c.n);
  run_linear(reference, pool, *expected_weight, c.x.view, expected.view, c.options);
  std::vector<float> w(static_cast<size_t>(c.k));
  for (isa_level level : fast_levels()) {
    const cpu::kernels& k = cpu::kernels_of(level);
    const auto weight = test::pack(k, views(c.parts), compute);
    CHECK_EQ(weight->out_features, c.n);
    CHECK_EQ(weight->in_features, c.k);
    CHECK(weight->type() == compute);
    guarded_output out(c.m, c.n);
    run_linear(k, pool, *weight, c.x.view, out.view, c.options);
    CHECK(out.guards_hold());
    for (int64_t n = 0; n < c.n; ++n) {
      cpu::on_cpu(*expected_weight).unpack_row(n, w.data());
      for (int64_t m = 0; m < c.m; ++m) {
        // The activations' slopes are below 1.13; their own error and the last additions' are relative to the values.
        const double want = expected.get(m, n), got = out.get(m, n);
        const double scale = magnitude(c.x, m, w);
        const double end = 4e-7 * (std::fabs(want) + (c.options.bias ? std::fabs(c.options.bias[n]) : 0) +
                                   (c.options.residual ? std::fabs(c.residual.get(m, n)) : 0));
        const double bound = 1.13 * scale * allowed(compute, level, c.k) + end + 1e-30;
        CHECK_MSG(std::fabs(got - want) <= bound, cpu::name(level), " ", name(compute), " m ", m, " of ", c.m, " n ", n,
                  " of ", c.n, " k ", c.k, " activation ", static_cast<int>(c.options.activation), ": ", got,
                  " instead of ", want, ", allowed ", bound);
      }
    }
  }
}

TEST(linear_matches_the_reference) {
  std::mt19937 random(1);
  for (int threads : {1, 2, 3}) {
    thread_pool pool(threads);
    for (int i = 0; i < 12; ++i) {
      const drawn_case c = draw(random, i % 6 == 5);
      for (dtype compute : compute_dtypes) compare_with_reference(c, compute, &pool);
    }
  }
  const drawn_case c = draw(random, false);
  for (dtype compute : compute_dtypes) compare_with_reference(c, compute, nullptr);
}

// x of bfloat16 values loses nothing to the bfloat16 instruction, so that every level meets the float32 bound.
TEST(linear_bf16_rounds_the_activations_alone) {
  std::mt19937 random(2);
  const int64_t m = 19, n = 77, k = 333;
  matrix w(dtype::bf16, n, k), x(dtype::f32, m, k), rounded(dtype::bf16, m, k);
  w.fill(random);
  rounded.fill(random);
  for (int64_t r = 0; r < m; ++r)
    for (int64_t c = 0; c < k; ++c) x.set(r, c, rounded.get(r, c));
  for (isa_level level : fast_levels()) {
    const cpu::kernels& kernels = cpu::kernels_of(level);
    const auto weight = test::pack(kernels, {w.view}, dtype::bf16);
    guarded_output out(m, n);
    run_linear(kernels, nullptr, *weight, x.view, out.view);
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t j = 0; j < n; ++j) {
      cpu::on_cpu(*weight).unpack_row(j, row.data());
      for (int64_t i = 0; i < m; ++i) {
        double want = 0;
        for (int64_t c = 0; c < k; ++c) want += double{x.get(i, c)} * row[static_cast<size_t>(c)];
        const double bound = magnitude(x, i, row) * allowed(dtype::f32, level, k);
        CHECK_MSG(std::fabs(out.get(i, j) - want) <= bound, cpu::name(level), ": ", out.get(i, j), " instead of ",
                  want);
      }
    }
  }
}

// k crosses several stretches of panel_stretch_bytes and m several portions of packed rows.
TEST(linear_takes_long_sums_and_many_rows) {
  std::mt19937 random(3);
  thread_pool pool(2);
  for (auto [m, n, k] : {std::array<int64_t, 3>{37, 45, 20011}, std::array<int64_t, 3>{1500, 37, 1031}}) {
    drawn_case c{m, n, k, {}, matrix(dtype::f32, m, k), matrix(dtype::f32, 1, n), matrix(dtype::f32, m, n), {}};
    c.parts.emplace_back(dtype::f32, n, k);
    c.parts[0].fill(random, 0.1f);
    c.x.fill(random);
    c.residual.fill(random);
    c.options.residual = c.residual.view;
    for (dtype compute : compute_dtypes) compare_with_reference(c, compute, &pool);
  }
}

TEST(linear_row_does_not_depend_on_its_neighbours) {
  std::mt19937 random(4);
  thread_pool one(1), three(3);
  for (auto [n, k] : {std::array<int64_t, 2>{131, 517}, std::array<int64_t, 2>{70, 9001}}) {
    const int64_t m = 61;
    matrix w(dtype::f32, n, k), x(dtype::f32, m, k), bias(dtype::f32, 1, n);
    w.fill(random);
    x.fill(random);
    bias.fill(random);
    run_options options;
    options.bias = bias.view.as<float>();
    for (isa_level level : cpu::available_levels())
      for (dtype compute : compute_dtypes)
        for (activation_kind kind : {activation_kind::none, activation_kind::gelu}) {
          options.activation = kind;
          const cpu::kernels& kernels = cpu::kernels_of(level);
          const auto weight = test::pack(kernels, {w.view}, compute);
          guarded_output all(m, n);
          run_linear(kernels, &one, *weight, x.view, all.view, options);
          for (auto [begin, end] : {std::array<int64_t, 2>{0, 1}, {7, 8}, {3, 9}, {20, 33}, {11, 59}, {0, 61}}) {
            guarded_output some(end - begin, n);
            run_linear(kernels, &three, *weight, x.view.slice(0, begin, end), some.view, options);
            for (int64_t r = begin; r < end; ++r)
              CHECK_MSG(std::memcmp(all.view.as<float>() + r * all.view.stride[0],
                                    some.view.as<float>() + (r - begin) * some.view.stride[0],
                                    sizeof(float) * static_cast<size_t>(n)) == 0,
                        cpu::name(level), " ", name(compute), " row ", r, " of ", begin, " .. ", end);
          }
        }
  }
}

// Output features are as independent: a weight cut in two gives the same bits, whatever panel a row falls in.
TEST(linear_column_does_not_depend_on_the_packing) {
  std::mt19937 random(5);
  const int64_t m = 5, n = 90, k = 260, cut = 37;
  matrix w(dtype::bf16, n, k), x(dtype::f32, m, k);
  w.fill(random);
  x.fill(random);
  for (isa_level level : cpu::available_levels())
    for (dtype compute : compute_dtypes) {
      const cpu::kernels& kernels = cpu::kernels_of(level);
      const auto whole = test::pack(kernels, {w.view}, compute);
      const auto second = test::pack(kernels, {w.view.slice(0, cut, n)}, compute);
      guarded_output all(m, n), some(m, n - cut);
      run_linear(kernels, nullptr, *whole, x.view, all.view);
      run_linear(kernels, nullptr, *second, x.view, some.view);
      for (int64_t r = 0; r < m; ++r)
        for (int64_t c = cut; c < n; ++c) CHECK_EQ(all.get(r, c), some.get(r, c - cut));
    }
}

TEST(linear_residual_may_be_the_output) {
  std::mt19937 random(6);
  const int64_t m = 33, n = 50, k = 12000;  // several stretches of k
  matrix w(dtype::f32, n, k), x(dtype::f32, m, k), residual(dtype::f32, m, n);
  w.fill(random);
  x.fill(random);
  residual.fill(random);
  for (isa_level level : cpu::available_levels())
    for (dtype compute : compute_dtypes) {
      const cpu::kernels& kernels = cpu::kernels_of(level);
      const auto weight = test::pack(kernels, {w.view}, compute);
      guarded_output apart(m, n), in_place(m, n);
      run_options options;
      options.residual = residual.view;
      run_linear(kernels, nullptr, *weight, x.view, apart.view, options);
      for (int64_t r = 0; r < m; ++r)
        std::memcpy(in_place.view.as<float>() + r * in_place.view.stride[0], residual.at(r, 0),
                    sizeof(float) * static_cast<size_t>(n));
      options.residual = in_place.view;
      run_linear(kernels, nullptr, *weight, x.view, in_place.view, options);
      CHECK(apart.values == in_place.values);
    }
}

TEST(packed_rows_unpack_to_what_was_packed) {
  std::mt19937 random(7);
  for (int i = 0; i < 8; ++i) {
    const drawn_case c = draw(random, false);
    for (isa_level level : fast_levels())
      for (dtype compute : compute_dtypes) {
        const auto expected = test::pack(cpu::kernels_of(isa_level::reference), views(c.parts), compute);
        const auto weight = test::pack(cpu::kernels_of(level), views(c.parts), compute);
        std::vector<float> want(static_cast<size_t>(c.k)), got(want.size() + 1, guard);
        for (int64_t row = 0; row < c.n; ++row) {
          cpu::on_cpu(*expected).unpack_row(row, want.data());
          cpu::on_cpu(*weight).unpack_row(row, got.data());
          CHECK_MSG(std::equal(want.begin(), want.end(), got.begin()), cpu::name(level), " ", name(compute), " row ",
                    row, " of ", c.n, ", k ", c.k);
          CHECK_EQ(got.back(), guard);
        }
      }
  }
}

TEST(packed_bytes_are_the_elements_and_the_last_panel) {
  matrix w(dtype::f32, 100, 64);
  std::mt19937 random(8);
  w.fill(random);
  for (isa_level level : fast_levels())
    for (dtype compute : compute_dtypes) {
      const auto weight = test::pack(cpu::kernels_of(level), {w.view}, compute);
      const size_t scales = compute == dtype::i8 ? 2 * sizeof(float) * 128 : 0;
      CHECK(weight->bytes >= bytes_of(compute, 100 * 64));
      CHECK(weight->bytes <= bytes_of(compute, 128 * 64) + scales);
    }
}

TEST(int8_rows_of_zeros_and_infinities) {
  std::mt19937 random(9);
  const int64_t n = 40, k = 70;
  matrix w(dtype::f32, n, k), x(dtype::f32, 4, k);
  w.fill(random);
  x.fill(random);
  for (int64_t c = 0; c < k; ++c) {
    x.set(0, c, 0);
    x.set(1, c, 1e-42f);
    w.set(3, c, 0);
  }
  x.set(2, 5, std::numeric_limits<float>::infinity());
  for (isa_level level : cpu::available_levels()) {
    const cpu::kernels& kernels = cpu::kernels_of(level);
    const auto weight = test::pack(kernels, {w.view}, dtype::i8);
    guarded_output out(4, n);
    run_linear(kernels, nullptr, *weight, x.view, out.view);
    for (int64_t c = 0; c < n; ++c) {
      CHECK_EQ(out.get(0, c), 0.0f);
      CHECK_EQ(out.get(1, c), 0.0f);
      CHECK(std::isnan(out.get(2, c)));
      CHECK(std::isfinite(out.get(3, c)));
    }
    CHECK_EQ(out.get(3, 3), 0.0f);
  }
}

TEST(steady_linear_allocates_nothing) {
  std::mt19937 random(10);
  thread_pool pool(2);
  matrix w(dtype::f32, 96, 200), x(dtype::f32, 50, 200);
  w.fill(random);
  x.fill(random);
  for (isa_level level : fast_levels())
    for (dtype compute : compute_dtypes) {
      const cpu::kernels& kernels = cpu::kernels_of(level);
      const auto weight = test::pack(kernels, {w.view}, compute);
      guarded_output out(50, 96);
      arena scratch(host_memory());
      exec ex{cpu_backend(), kernels.ops, scratch, &pool};
      linear_args args;
      args.out = out.view;
      args.x = x.view;
      args.weight = weight.get();
      kernels.ops.linear(ex, args);
      scratch.reset();
      kernels.ops.linear(ex, args);
      const uint64_t before = allocation_count();
      kernels.ops.linear(ex, args);
      CHECK_EQ(allocation_count(), before);
    }
}

TEST(what_packs_together) {
  matrix a(dtype::f32, 4, 64), b(dtype::bf16, 8, 64), narrow(dtype::f32, 4, 32);
  std::memset(a.view.data, 0, 4 * 64 * sizeof(float));
  tensor q(a.view.data, dtype::q8_0, {4, 64}), other(a.view.data, dtype::q4_0, {4, 64}),
      ids(a.view.data, dtype::i32, {4, 64});
  for (isa_level level : cpu::available_levels()) {
    const cpu::kernels& k = cpu::kernels_of(level);
    const auto packs = [&](const std::vector<stored_weight>& parts, std::string_view made) {
      const auto format = std::ranges::find(weight_formats(), made, &weight_format::name);
      return k.pack(parts, *format, host_memory())->out_features;
    };
    CHECK_EQ(packs({a.view, b.view}, "float32"), 12);
    CHECK_EQ(packs({a.view, q, other}, "float16"), 12);  // expanded
    CHECK_EQ(packs({a.view, q, other}, "int8"), 12);
    CHECK_EQ(packs({q, q}, "q8_0"), 8);
    CHECK_ERROR(FT_ERROR_INTERNAL, "together", packs({a.view, narrow.view}, "float32"));
    CHECK_ERROR(FT_ERROR_INTERNAL, "together", packs({q, other}, "q8_0"));
    CHECK_ERROR(FT_ERROR_INTERNAL, "together", packs({a.view}, "q8_0"));
    CHECK_ERROR(FT_ERROR_INTERNAL, "together", packs({}, "float32"));
    CHECK_ERROR(FT_ERROR_UNSUPPORTED, "int32", packs({ids}, "float32"));
    CHECK_ERROR(FT_ERROR_UNSUPPORTED, "without columns", packs({tensor(a.view.data, dtype::f32, {4, 0})}, "float32"));
  }
}

// Blocks that are not kept become what packing their values as floats gives.
TEST(blocks_are_expanded_into_what_is_computed) {
  std::mt19937 random(11);
  for (dtype type : {dtype::q4_0, dtype::q5_1, dtype::q8_0, dtype::q6_k}) {
    const int64_t rows = 37, columns = 256;
    std::vector<uint8_t> bytes(bytes_of(type, rows * columns));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random() & 0x3b);  // no exponent of all ones
    const stored_weight blocks = tensor(bytes.data(), type, {rows, columns});
    std::vector<float> values(static_cast<size_t>(rows * columns)), got(values.size()), want(values.size());
    for (int64_t r = 0; r < rows; ++r) blocks.expand(r, values.data() + r * columns);
    const stored_weight floats = tensor(values.data(), dtype::f32, {rows, columns});
    for (isa_level level : cpu::available_levels())
      for (dtype compute : compute_dtypes) {
        const cpu::kernels& k = cpu::kernels_of(level);
        const auto expanded = k.pack({&blocks, 1}, computed_format(compute), host_memory()),
                   plain = k.pack({&floats, 1}, computed_format(compute), host_memory());
        for (int64_t r = 0; r < rows; ++r) {
          cpu::on_cpu(*expanded).unpack_row(r, got.data() + r * columns);
          cpu::on_cpu(*plain).unpack_row(r, want.data() + r * columns);
        }
        CHECK_MSG(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0, cpu::name(level), " ",
                  name(type), " to ", name(compute));
      }
  }
}

}  // namespace
}  // namespace ft
