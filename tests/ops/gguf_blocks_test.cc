// Decoding of GGUF blocks, against the `gguf` package's own results and against formulas written out a second time.
#include "ops/gguf_blocks.h"

#include <bit>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "check.h"
#include "gguf_fixture.h"

using namespace ft;

namespace {

void check_fixture(dtype type, std::span<const uint8_t> blocks, std::span<const uint32_t> expected) {
  std::vector<float> values(expected.size(), std::numeric_limits<float>::quiet_NaN());
  CHECK_EQ(bytes_of(type, static_cast<int64_t>(expected.size())), blocks.size());
  // An odd address: blocks in a file have no alignment.
  std::vector<uint8_t> moved(blocks.size() + 1);
  std::memcpy(moved.data() + 1, blocks.data(), blocks.size());
  dequantise_row(type, moved.data() + 1, static_cast<int64_t>(expected.size()), values.data());
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK_MSG(values[i] == std::bit_cast<float>(expected[i]), name(type), " element ", i, ": ", values[i]);
}

}  // namespace

TEST(gguf_blocks_equal_the_gguf_package) {
  check_fixture(dtype::q4_0, gguf_fixture::q4_0_blocks, gguf_fixture::q4_0_values);
  check_fixture(dtype::q4_1, gguf_fixture::q4_1_blocks, gguf_fixture::q4_1_values);
  check_fixture(dtype::q5_0, gguf_fixture::q5_0_blocks, gguf_fixture::q5_0_values);
  check_fixture(dtype::q5_1, gguf_fixture::q5_1_blocks, gguf_fixture::q5_1_values);
  check_fixture(dtype::q8_0, gguf_fixture::q8_0_blocks, gguf_fixture::q8_0_values);
  check_fixture(dtype::q4_k, gguf_fixture::q4_k_blocks, gguf_fixture::q4_k_values);
  check_fixture(dtype::q5_k, gguf_fixture::q5_k_blocks, gguf_fixture::q5_k_values);
  check_fixture(dtype::q6_k, gguf_fixture::q6_k_blocks, gguf_fixture::q6_k_values);
}

TEST(gguf_blocks_by_hand) {
  // d = 0.5 (0x3800), m = -1 (0xbc00)
  uint8_t q4_1[20] = {0x00, 0x38, 0x00, 0xbc, 0xf2};
  float out[32];
  dequantise_row(dtype::q4_1, q4_1, 32, out);
  CHECK_EQ(out[0], 0.0f);   // 0.5 * 2 - 1
  CHECK_EQ(out[16], 6.5f);  // 0.5 * 15 - 1
  CHECK_EQ(out[1], -1.0f);
  uint8_t q5_0[22] = {0x00, 0x38, 0x01, 0x00, 0x00, 0x80, 0x03};
  dequantise_row(dtype::q5_0, q5_0, 32, out);
  CHECK_EQ(out[0], 1.5f);   // 0.5 * (19 - 16)
  CHECK_EQ(out[1], -8.0f);  // 0.5 * (0 - 16)
  CHECK_EQ(out[31], 0.0f);  // 0.5 * (16 - 16)
  uint8_t q8_0[34] = {0x00, 0x38, 0x80, 0x7f, 0xff};
  dequantise_row(dtype::q8_0, q8_0, 32, out);
  CHECK_EQ(out[0], -64.0f);
  CHECK_EQ(out[1], 63.5f);
  CHECK_EQ(out[2], -0.5f);
  CHECK_EQ(out[3], 0.0f);
}

TEST(float16_conversions) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = f16_to_f32(half);
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31) {
      CHECK(fraction ? std::isnan(value) : std::isinf(value));
    } else {
      const double magnitude = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
      CHECK_EQ(value, static_cast<float>(bits & 0x8000 ? -magnitude : magnitude));
    }
    CHECK_EQ(std::signbit(value), (bits & 0x8000) != 0);
    if (!std::isnan(value)) {
      CHECK_EQ(f32_to_f16(value), half);
    } else {
      CHECK(std::isnan(f16_to_f32(f32_to_f16(value))));
    }
    // Halfway to the next number up goes to the even one; a little less or more goes to the nearer.
    if (exponent < 31 && (bits & 0x7fff) < 0x7bff) {
      const float next = f16_to_f32(static_cast<uint16_t>(bits + 1)), middle = (value + next) / 2;
      CHECK_EQ(f32_to_f16(middle), static_cast<uint16_t>(bits + (bits & 1)));
      CHECK_EQ(f32_to_f16(std::nextafter(middle, value)), half);
      CHECK_EQ(f32_to_f16(std::nextafter(middle, next)), static_cast<uint16_t>(bits + 1));
    }
  }
  CHECK_EQ(f32_to_f16(65519.996f), 0x7bff);
  CHECK_EQ(f32_to_f16(65520.0f), 0x7c00);
  CHECK_EQ(f32_to_f16(-1e30f), 0xfc00);
  CHECK_EQ(f32_to_f16(1e-30f), 0);
  CHECK_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // halfway between 1 and 1 + 2^-7
  CHECK_EQ(f32_to_bf16(1.01171875f), 0x3f82);  // halfway, up to even
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(plain_rows) {
  const uint16_t halves[3] = {0x3c00, 0xc000, 0x0001};
  const uint16_t brains[3] = {0x3f80, 0xc000, 0x0001};
  const double doubles[3] = {1, -2, 0.1};
  const float floats[3] = {1, -2, 0.1f};
  float out[3];
  dequantise_row(dtype::f16, halves, 3, out);
  CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f);
  dequantise_row(dtype::bf16, brains, 3, out);
  CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f);
  dequantise_row(dtype::f64, doubles, 3, out);
  CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0.1f);
  dequantise_row(dtype::f32, floats, 3, out);
  CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0.1f);
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "int32", dequantise_row(dtype::i32, floats, 3, out));
  CHECK_ERROR(FT_ERROR_INTERNAL, "", dequantise_row(dtype::q4_0, floats, 31, out));
}
