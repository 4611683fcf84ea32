// The vector functions of every level against the C library in double precision, and the 16-bit conversions against
// the scalar ones, which are tested exhaustively.
#include "ops/harness.h"
#include "ops/isa/simd_probe.h"

namespace ft::test {
namespace {

struct named_probe {
  std::string level;
  simd_probe simd;
};

std::vector<named_probe> probes() {
  std::vector<named_probe> list;
  for (cpu::isa_level level : cpu::available_levels()) {
#define FT_PROBE(built) \
  if (level == cpu::isa_level::built) list.push_back({std::string(cpu::name(level)), built::probe()});
    FT_FOR_EACH_BUILT_LEVEL(FT_PROBE)
#undef FT_PROBE
  }
  return list;
}

struct accuracy {
  const char* name;
  function f;
  double (*exact)(double);
  float low, high;
  double absolute, relative;  // either bound suffices
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * std::erfc(-x * std::sqrt(0.5)); }
double gelu_tanh(double x) { return x * sigmoid(2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)); }

constexpr accuracy accuracies[] = {
    {"exp", function::exp, [](double x) { return std::exp(x); }, -87, 88.7f, 0, 2e-7},
    {"exp, subnormal results", function::exp, [](double x) { return std::exp(x); }, -104, -87, 3e-45, 2e-7},
    {"tanh", function::tanh, [](double x) { return std::tanh(x); }, -12, 12, 0, 2.5e-7},
    {"tanh near 0", function::tanh, [](double x) { return std::tanh(x); }, -1e-3f, 1e-3f, 0, 2.5e-7},
    {"erf", function::erf, [](double x) { return std::erf(x); }, -6, 6, 0, 2.5e-7},
    {"erf, absolutely", function::erf, [](double x) { return std::erf(x); }, -6, 6, 2e-7, 0},
    {"sigmoid", function::sigmoid, sigmoid, -85, 85, 0, 3e-7},
    {"gelu", function::gelu, gelu, -20, 20, 1e-7, 3e-7},
    {"gelu_tanh", function::gelu_tanh, gelu_tanh, -20, 20, 1e-7, 4e-7},
};

// The error that no bound covers, in whichever unit the case gives: above 1 it is too large.
double excess(const accuracy& a, float x, float y) {
  const double want = a.exact(double{x}), error = std::fabs(y - want);
  if (!(error == error)) return INFINITY;
  const double allowed = std::max(a.absolute, a.relative * std::fabs(want));
  return error == 0 ? 0 : error / allowed;
}

}  // namespace

TEST(elementary_functions_are_accurate) {
  constexpr int points = 200000;
  std::vector<float> x(points), y(points);
  for (const accuracy& a : accuracies) {
    for (int i = 0; i < points; ++i) x[i] = a.low + (a.high - a.low) * static_cast<float>(i) / (points - 1);
    for (const named_probe& p : probes()) {
      p.simd.apply(a.f, x.data(), y.data(), points);
      for (int i = 0; i < points; ++i)
        CHECK_MSG(excess(a, x[i], y[i]) <= 1, p.level, ": ", a.name, " of ", x[i], " is ", y[i]);
    }
  }
}

TEST(elementary_functions_keep_their_limits) {
  const float inf = INFINITY;
  struct limit {
    function f;
    float x, y;
  };
  const limit limits[] = {
      {function::exp, 0, 1},          {function::exp, -inf, 0},    {function::exp, inf, inf},
      {function::exp, 89, inf},       {function::exp, -1000, 0},   {function::tanh, 0, 0},
      {function::tanh, inf, 1},       {function::tanh, -inf, -1},  {function::tanh, 1e-40f, 1e-40f},
      {function::erf, 0, 0},          {function::erf, inf, 1},     {function::erf, -inf, -1},
      {function::sigmoid, 0, 0.5f},   {function::sigmoid, inf, 1}, {function::sigmoid, -inf, 0},
      {function::gelu, 0, 0},         {function::gelu, inf, inf},  {function::gelu, -inf, 0},
      {function::gelu, 1e30f, 1e30f}, {function::gelu_tanh, 0, 0}, {function::gelu_tanh, 1000, 1000},
  };
  for (const named_probe& p : probes()) {
    for (const limit& l : limits) {
      float y;
      p.simd.apply(l.f, &l.x, &y, 1);
      CHECK_MSG(std::fabs(y - l.y) <= 2e-7f * std::fabs(l.y) || y == l.y, p.level, ": function ", static_cast<int>(l.f),
                " of ", l.x, " is ", y);
    }
    for (function f : {function::exp, function::tanh, function::erf, function::sigmoid, function::gelu}) {
      float y, nan = NAN;
      p.simd.apply(f, &nan, &y, 1);
      CHECK_MSG(y != y, p.level, ": function ", static_cast<int>(f), " of NaN is ", y);
    }
  }
}

// A half widened and narrowed again is itself, and the nearest half of a float is never further than its neighbours.
TEST(scalar_halves_round_to_nearest) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 h{static_cast<uint16_t>(bits)};
    const bf16 b{static_cast<uint16_t>(bits)};
    const float fh = to_float(h), fb = to_float(b);
    if (fh == fh) CHECK_EQ(from_float<f16>(fh).bits, h.bits);
    if (fb == fb) CHECK_EQ(from_float<bf16>(fb).bits, b.bits);
    if (fh != fh) CHECK(std::isnan(to_float(from_float<f16>(fh))));
    if (fb != fb) CHECK(std::isnan(to_float(from_float<bf16>(fb))));
  }
  CHECK_EQ(to_float(f16{0x3c00}), 1.0f);
  CHECK_EQ(to_float(f16{0x0001}), 0x1p-24f);
  CHECK_EQ(to_float(f16{0xfbff}), -65504.0f);
  for (uint16_t bits = 0; bits < 0x7bff; ++bits) {  // midpoints go to the even neighbour
    const float low = to_float(f16{bits}), high = to_float(f16{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    CHECK_EQ(from_float<f16>(middle).bits, bits + (bits & 1));
    CHECK_EQ(from_float<f16>(std::nextafter(middle, INFINITY)).bits, bits + 1);
    CHECK_EQ(from_float<f16>(std::nextafter(middle, -INFINITY)).bits, bits);
  }
}

TEST(vector_halves_equal_scalar_ones) {
  std::vector<f16> f16s;
  std::vector<bf16> bf16s;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    f16s.push_back({static_cast<uint16_t>(bits)});
    bf16s.push_back({static_cast<uint16_t>(bits)});
  }
  std::vector<float> floats;
  std::mt19937 engine(5);
  for (int i = 0; i < 200001; ++i) floats.push_back(std::bit_cast<float>(static_cast<uint32_t>(engine())));
  const auto same = [](float a, float b) {
    return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (a != a && b != b);
  };
  for (const named_probe& p : probes()) {
    std::vector<float> wide(f16s.size());
    p.simd.widen_f16(f16s.data(), wide.data(), static_cast<int64_t>(wide.size()));
    for (size_t i = 0; i < wide.size(); ++i) CHECK_MSG(same(wide[i], to_float(f16s[i])), p.level, " f16 ", i);
    p.simd.widen_bf16(bf16s.data(), wide.data(), static_cast<int64_t>(wide.size()));
    for (size_t i = 0; i < wide.size(); ++i) CHECK_MSG(same(wide[i], to_float(bf16s[i])), p.level, " bf16 ", i);
    std::vector<f16> h(floats.size());
    std::vector<bf16> b(floats.size());
    p.simd.narrow_f16(floats.data(), h.data(), static_cast<int64_t>(floats.size()));
    p.simd.narrow_bf16(floats.data(), b.data(), static_cast<int64_t>(floats.size()));
    for (size_t i = 0; i < floats.size(); ++i) {
      CHECK_MSG(same(to_float(h[i]), to_float(from_float<f16>(floats[i]))), p.level, " ", floats[i]);
      CHECK_MSG(same(to_float(b[i]), to_float(from_float<bf16>(floats[i]))), p.level, " ", floats[i]);
    }
  }
}

TEST(partial_vectors_touch_nothing_else) {
  for (const named_probe& p : probes())
    for (int64_t n = 1; n < 2 * p.simd.lanes; ++n) {
      guarded x = guarded({1, n}).fill(0.25f), y({1, n});
      p.simd.apply(function::tanh, x.view().as<float>(), y.view().as<float>(), n);
      CHECK(x.intact() && y.intact());
      for (float v : y.values()) CHECK_MSG(std::fabs(v - std::tanh(0.25f)) < 1e-6f, p.level, ", ", n, " elements: ", v);
      std::vector<bf16> narrow(static_cast<size_t>(n) + 1, bf16{0x1234});
      p.simd.narrow_bf16(y.view().as<float>(), narrow.data(), n);
      CHECK_EQ(narrow.back().bits, 0x1234);
    }
}

TEST(lanes_are_folded_and_transposed) {
  draw d(3);
  for (const named_probe& p : probes()) {
    const int n = p.simd.lanes;
    const std::vector<float> x = d.normals(n * n);
    CHECK(std::fabs(p.simd.sum(x.data()) - std::accumulate(x.begin(), x.begin() + n, 0.0)) < 1e-5);
    CHECK_EQ(p.simd.max(x.data()), *std::max_element(x.begin(), x.begin() + n));
    std::vector<float> y(x.size());
    p.simd.transpose(x.data(), y.data());
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) CHECK_EQ(y[static_cast<size_t>(j * n + i)], x[static_cast<size_t>(i * n + j)]);
  }
}

}  // namespace ft::test
