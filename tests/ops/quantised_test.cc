// Products with GGUF-quantised weights at every level of this machine, against sums in double precision of the
// dequantised weights (gguf_blocks_test.cc checks those) with the activations as they are quantised, and as they are.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "backends/cpu/isa_level.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"
#include "check.h"
#include "ops/gguf_blocks.h"
#include "ops/pack.h"

using namespace ft;

namespace {

constexpr dtype all_types[] = {dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                               dtype::q8_0, dtype::q4_k, dtype::q5_k, dtype::q6_k};
constexpr float poison = std::numeric_limits<float>::quiet_NaN();

using randomness = std::mt19937;

int64_t between(randomness& rng, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(rng);
}

// The places of the float16 fields in a block.
std::vector<int> half_fields(dtype type) {
  switch (type) {
    case dtype::q4_1:
    case dtype::q5_1:
    case dtype::q4_k:
    case dtype::q5_k:
      return {0, 2};
    case dtype::q6_k:
      return {208};
    default:
      return {0};
  }
}

void set_half(uint8_t* block, int field, uint16_t bits) { std::memcpy(block + field, &bits, sizeof bits); }

// A matrix of random blocks in the file's layout, one byte off any alignment.
struct matrix {
  dtype type;
  int64_t rows, columns;
  std::vector<uint8_t> storage;

  matrix(dtype type, int64_t rows, int64_t columns, randomness& rng)
      : type(type), rows(rows), columns(columns), storage(bytes_of(type, rows * columns) + 1) {
    for (uint8_t& byte : storage) byte = static_cast<uint8_t>(rng());
    std::normal_distribution<float> scale(0, 0.02f);
    for (size_t b = 0; b < blocks(); ++b)
      for (int field : half_fields(type)) set_half(block(b), field, f32_to_f16(scale(rng)));
  }
  size_t blocks() const { return storage.size() / static_cast<size_t>(traits(type).block_bytes); }
  uint8_t* block(size_t i) { return storage.data() + 1 + i * static_cast<size_t>(traits(type).block_bytes); }
  tensor view() { return tensor(storage.data() + 1, type, {rows, columns}); }
  std::vector<float> dequantised() {
    std::vector<float> out(static_cast<size_t>(rows * columns));
    dequantise_row(type, storage.data() + 1, rows * columns, out.data());
    return out;
  }
};

std::vector<float> draw(int64_t count, randomness& rng) {
  std::vector<float> x(static_cast<size_t>(count));
  std::normal_distribution<float> normal;
  for (float& v : x) v = normal(rng) * (rng() % 16 ? 1.0f : 20.0f);
  return x;
}

// What the kernels compute with instead of x, and half the finer step of each block.
struct rounded {
  std::vector<float> x;
  std::vector<float> half_step;
};

// Each block is rounded to 127ths of its largest value, and what is left is rounded in the same way.
rounded round_activations(const std::vector<float>& x) {
  rounded r{std::vector<float>(x.size()), {}};
  for (size_t b = 0; b < x.size(); b += 32) {
    std::vector<float> left(x.begin() + static_cast<std::ptrdiff_t>(b),
                            x.begin() + static_cast<std::ptrdiff_t>(b) + 32);
    float scale = 0;
    for (int term = 0; term < 2; ++term) {
      float most = 0;
      for (float v : left) most = std::max(most, std::fabs(v));
      scale = most / 127;
      const float inverse = most > 0 ? 127 / most : 0;
      for (size_t i = 0; i < 32; ++i) {
        const float q = std::nearbyint(left[i] * inverse);
        left[i] = std::fma(-scale, q, left[i]);
        r.x[b + i] += scale * q;
      }
    }
    r.half_step.push_back(scale / 2);
  }
  return r;
}

// A level's kernels with everything they need to run. The scratch memory starts out full of ones.
class bench {
 public:
  bench(cpu::isa_level level, int threads) : kernels_(cpu::kernels_of(level)), pool_(threads) {
    arena::scope scope(scratch_);
    std::memset(scratch_.allocate(1 << 20), 0xff, 1 << 20);
  }
  std::unique_ptr<packed_weight> pack(std::vector<tensor> parts) const {
    return test::pack(kernels_, parts, dtype::f32);
  }

  // out[rows, width], rows `gap` apart beyond their width, in memory that is poisoned and must stay so in the gaps.
  std::vector<float> linear(const packed_weight& weight, std::vector<float> x, int64_t rows, int64_t gap = 0,
                            linear_args args = {}) {
    const int64_t width = weight.out_features, stride = width + gap;
    std::vector<float> out(static_cast<size_t>(rows * stride), poison);
    args.weight = &weight;
    args.x = tensor(x.data(), dtype::f32, {rows, weight.in_features});
    args.out = tensor(out.data(), dtype::f32, {rows, width});
    args.out.stride[0] = stride;
    exec ex{cpu_backend(), kernels_.ops, scratch_, &pool_};
    kernels_.ops.linear(ex, args);
    std::vector<float> packed;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t n = 0; n < stride; ++n) {
        const float y = out[static_cast<size_t>(r * stride + n)];
        if (n < width)
          packed.push_back(y);
        else
          CHECK(std::isnan(y));
      }
    return packed;
  }

 private:
  const cpu::kernels& kernels_;
  arena scratch_{host_memory()};
  thread_pool pool_;
};

std::vector<cpu::isa_level> fast_levels() {
  std::vector<cpu::isa_level> levels = cpu::available_levels();
  std::erase(levels, cpu::isa_level::reference);
  return levels;
}

bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

// Both bounds for every output of a product. The kernel's own error is that of adding columns / 32 float32 terms; the
// activations' is at most half a step of their block times the weights' magnitudes.
void check_product(const std::vector<float>& w, const std::vector<float>& x, const std::vector<float>& y, int64_t rows,
                   int64_t width, int64_t columns, const std::string& what) {
  const rounded r = round_activations(x);
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < width; ++n) {
      double close = 0, exact = 0, magnitude = 0, slack = 0;
      for (int64_t k = 0; k < columns; ++k) {
        const double weight = w[static_cast<size_t>(n * columns + k)];
        const auto at = static_cast<size_t>(m * columns + k);
        close += weight * r.x[at];
        exact += weight * x[at];
        magnitude += std::fabs(weight * r.x[at]);
        slack += std::fabs(weight) * r.half_step[at / 32];
      }
      const double got = y[static_cast<size_t>(m * width + n)], error = std::fabs(got - close);
      CHECK_MSG(error <= 1e-5 * magnitude, what, " row ", m, " output ", n, ": ", got, " is not ", close);
      CHECK_MSG(std::fabs(got - exact) <= 1.001 * slack + 1e-5 * magnitude, what, " row ", m, " output ", n, ": ", got,
                " is too far from ", exact);
    }
}

void for_levels_and_types(const std::function<void(cpu::isa_level, dtype, const std::string&)>& body) {
  for (cpu::isa_level level : fast_levels())
    for (dtype type : all_types) body(level, type, cat(cpu::name(level), " ", name(type)));
}

}  // namespace

TEST(quantised_rows_unpack_to_the_files_values) {
  for (cpu::isa_level level : cpu::available_levels())
    for (dtype type : all_types) {
      randomness rng(5);
      const int64_t columns = 3 * traits(type).block_elements;
      matrix first(type, 19, columns, rng), second(type, 14, columns, rng);
      const auto weight = bench(level, 1).pack({first.view(), second.view()});
      CHECK_EQ(weight->out_features, 33);
      CHECK_EQ(weight->in_features, columns);
      CHECK(weight->type() == type);
      std::vector<float> row(static_cast<size_t>(columns));
      for (int64_t n = 0; n < 33; ++n) {
        cpu::on_cpu(*weight).unpack_row(n, row.data());
        const std::vector<float> expected = n < 19 ? first.dequantised() : second.dequantised();
        for (int64_t k = 0; k < columns; ++k)
          CHECK_EQ(row[static_cast<size_t>(k)], expected[static_cast<size_t>((n < 19 ? n : n - 19) * columns + k)]);
      }
    }
}

TEST(quantised_products_of_drawn_shapes) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(static_cast<uint32_t>(type) + 100);
    for (int trial = 0; trial < 12; ++trial) {
      const int64_t unit = traits(type).block_elements;
      const int64_t rows = trial == 0 ? 40 : between(rng, 1, 40), width = between(rng, 1, 70);
      const int64_t columns = unit * between(rng, 1, 1024 / unit);
      matrix w(type, width, columns, rng);
      bench b(level, 1 + trial % 3);
      const auto weight = b.pack({w.view()});
      const std::vector<float> x = draw(rows * columns, rng);
      const std::vector<float> y = b.linear(*weight, x, rows, trial % 5);
      check_product(w.dequantised(), x, y, rows, width, columns, cat(what, " ", rows, "x", width, "x", columns));
    }
  });
}

TEST(quantised_rows_do_not_depend_on_each_other) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(7);
    const int64_t columns = 512, width = 53, most = 40;
    matrix w(type, width, columns, rng);
    bench alone(level, 1);
    const auto weight = alone.pack({w.view()});
    const std::vector<float> x = draw(most * columns, rng);
    std::vector<float> expected;
    for (int64_t m = 0; m < most; ++m) {
      const std::vector<float> row(x.begin() + m * columns, x.begin() + (m + 1) * columns);
      const std::vector<float> y = alone.linear(*weight, row, 1);
      expected.insert(expected.end(), y.begin(), y.end());
    }
    for (int threads = 1; threads <= 3; ++threads) {
      bench b(level, threads);
      for (int64_t rows = 1; rows <= most; ++rows) {
        const int64_t first = (rows * 7) % (most - rows + 1);
        const std::vector<float> some(x.begin() + first * columns, x.begin() + (first + rows) * columns);
        const std::vector<float> y = b.linear(*weight, some, rows);
        CHECK_MSG(same_bits(y.data(), expected.data() + first * width, rows * width), what, " ", rows, " rows, ",
                  threads, " threads");
      }
    }
  });
}

// Many rows of many columns, so that the rows are cut into ranges that pass through the cache one by one.
TEST(quantised_long_products) {
  for (cpu::isa_level level : fast_levels()) {
    if (level == cpu::isa_level::portable) continue;
    randomness rng(8);
    const int64_t columns = 4096, width = 20, rows = 203;
    matrix w(dtype::q4_k, width, columns, rng);
    bench b(level, 3);
    const auto weight = b.pack({w.view()});
    const std::vector<float> x = draw(rows * columns, rng);
    const std::vector<float> y = b.linear(*weight, x, rows);
    check_product(w.dequantised(), x, y, rows, width, columns, std::string(cpu::name(level)));
  }
}

TEST(quantised_epilogue) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(9);
    const int64_t columns = 256, width = 37, rows = 5;
    matrix w(type, width, columns, rng);
    bench b(level, 2);
    const auto weight = b.pack({w.view()});
    const std::vector<float> x = draw(rows * columns, rng), bias = draw(width, rng);
    std::vector<float> residual = draw(rows * (width + 3), rng);
    const std::vector<float> plain = b.linear(*weight, x, rows);
    linear_args args;
    const cpu::cpu_bias added(bias);
    args.bias = &added;
    args.activation = activation_kind::silu;
    args.residual = tensor(residual.data(), dtype::f32, {rows, width});
    args.residual.stride[0] = width + 3;
    const std::vector<float> y = b.linear(*weight, x, rows, 2, args);
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t n = 0; n < width; ++n) {
        const double before = double{plain[static_cast<size_t>(m * width + n)]} + bias[static_cast<size_t>(n)];
        const double activated = before / (1 + std::exp(-before));
        const double expected = activated + residual[static_cast<size_t>(m * (width + 3) + n)];
        const double got = y[static_cast<size_t>(m * width + n)];
        CHECK_MSG(std::fabs(got - expected) <= 1e-5 * (1 + std::fabs(activated) + std::fabs(expected)), what, ": ", got,
                  " is not ", expected);
      }
  });
}

TEST(quantised_residual_in_place) {
  for (cpu::isa_level level : fast_levels()) {
    randomness rng(10);
    matrix w(dtype::q4_1, 40, 64, rng);
    bench b(level, 2);
    const auto weight = b.pack({w.view()});
    std::vector<float> x = draw(3 * 64, rng), inout = draw(3 * 40, rng);
    const std::vector<float> before = inout, product = b.linear(*weight, x, 3);
    arena scratch(host_memory());
    exec ex{cpu_backend(), cpu::kernels_of(level).ops, scratch, nullptr};  // and no pool
    linear_args args;
    args.weight = weight.get();
    args.x = tensor(x.data(), dtype::f32, {3, 64});
    args.out = args.residual = tensor(inout.data(), dtype::f32, {3, 40});
    ex.ops.linear(ex, args);
    for (size_t i = 0; i < inout.size(); ++i) CHECK_EQ(inout[i], before[i] + product[i]);
  }
}

TEST(quantised_zeros) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string&) {
    randomness rng(11);
    const int64_t columns = 256, width = 17;
    matrix w(type, width, columns, rng);
    bench b(level, 1);
    std::vector<float> x(2 * columns, 0.0f);
    std::fill(x.begin() + columns, x.end(), -0.0f);
    for (float y : b.linear(*b.pack({w.view()}), x, 2)) CHECK_EQ(y, 0.0f);
    // Activations too small to be scaled count as zeros.
    std::fill(x.begin(), x.end(), std::numeric_limits<float>::denorm_min());
    for (float y : b.linear(*b.pack({w.view()}), x, 2)) CHECK(std::fabs(y) < 1e-35f);
    std::fill(w.storage.begin(), w.storage.end(), uint8_t{0});
    for (float y : b.linear(*b.pack({w.view()}), draw(2 * columns, rng), 2)) CHECK_EQ(y, 0.0f);
  });
}

// All integers at either end of their range, where sums in 16 bits would saturate if they could.
TEST(quantised_extreme_integers) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(12);
    const int64_t columns = 256, width = 16, rows = 9;
    for (int fill : {0x00, 0xff, 0x80, 0x7f}) {
      matrix w(type, width, columns, rng);
      std::fill(w.storage.begin(), w.storage.end(), static_cast<uint8_t>(fill));
      for (size_t i = 0; i < w.blocks(); ++i)
        for (int field : half_fields(type)) set_half(w.block(i), field, 0x3c00);  // 1
      bench b(level, 1);
      const auto weight = b.pack({w.view()});
      for (float sign : {1.0f, -1.0f}) {
        const std::vector<float> x(static_cast<size_t>(rows * columns), sign * 127);
        check_product(w.dequantised(), x, b.linear(*weight, x, rows), rows, width, columns, cat(what, " ", fill));
      }
    }
  });
}

TEST(quantised_huge_and_tiny_scales) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(13);
    const int64_t columns = 256, width = 18, rows = 3;
    for (uint16_t half : {uint16_t{0x7bff}, uint16_t{0x0001}, uint16_t{0x83ff}}) {  // largest, smallest, subnormal
      matrix w(type, width, columns, rng);
      for (size_t i = 0; i < w.blocks(); ++i)
        for (int field : half_fields(type)) set_half(w.block(i), field, half);
      bench b(level, 1);
      std::vector<float> x = draw(rows * columns, rng);
      for (int64_t k = 0; k < columns; ++k) x[static_cast<size_t>(k)] *= 1e25f;
      check_product(w.dequantised(), x, b.linear(*b.pack({w.view()}), x, rows), rows, width, columns, what);
    }
  });
}

// An infinity or NaN, in a scale or an activation, is not hidden, and touches only the outputs it belongs to.
TEST(quantised_non_finite_values) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string& what) {
    randomness rng(14);
    const int64_t columns = 256, width = 20, rows = 10;
    matrix w(type, width, columns, rng);
    const size_t row_blocks = w.blocks() / static_cast<size_t>(width);
    set_half(w.block(3 * row_blocks), half_fields(type)[0], 0x7c00);  // infinity in row 3
    set_half(w.block(5 * row_blocks), half_fields(type)[0], 0x7e01);  // NaN in row 5
    bench b(level, 1);
    std::vector<float> x = draw(rows * columns, rng);
    x[static_cast<size_t>(2 * columns + 40)] = infinity;
    x[static_cast<size_t>(4 * columns + 255)] = -poison;
    x[static_cast<size_t>(4 * columns + 254)] = -infinity;
    const std::vector<float> y = b.linear(*b.pack({w.view()}), x, rows);
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t n = 0; n < width; ++n) {
        const bool finite = m != 2 && m != 4 && n != 3 && n != 5;
        CHECK_MSG(std::isfinite(y[static_cast<size_t>(m * width + n)]) == finite, what, " row ", m, " output ", n);
      }
  });
}

TEST(quantised_nothing_to_do) {
  for_levels_and_types([](cpu::isa_level level, dtype type, const std::string&) {
    randomness rng(15);
    matrix w(type, 16, 256, rng);
    bench b(level, 2);
    CHECK(b.linear(*b.pack({w.view()}), {}, 0).empty());
    CHECK_EQ(b.pack({w.view().slice(0, 0, 0)})->out_features, 0);
  });
}
