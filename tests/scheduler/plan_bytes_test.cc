// Plans survive being written to bytes; bytes that are no plan are refused.
#include "runtime/plan/plan_bytes.h"

#include <cstring>
#include <random>

#include "check.h"

using namespace ft;
using namespace ft::runtime;

namespace {

void fill(std::mt19937& random, void* to, size_t size) {
  auto* bytes = static_cast<unsigned char*>(to);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<unsigned char>(random());
}

// Any values in arrays of any length: what they mean does not matter here.
step_plan draw_plan(std::mt19937& random) {
  step_plan p;
  step_plan::visit_values(p, [&](auto& value) { fill(random, &value, sizeof value); });
  step_plan::visit_arrays(p, [&](const char*, auto& array) {
    array.resize(random() % 3 ? random() % 9 : 0);
    if (!array.empty()) fill(random, array.data(), array.size() * sizeof array[0]);
  });
  return p;
}

std::vector<std::byte> bytes_of(const step_plan& p) {
  std::vector<std::byte> bytes;
  write_plan(bytes, p);
  return bytes;
}

}  // namespace

TEST(a_plan_is_read_as_it_was_written) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  step_plan read;
  for (int i = 0; i < 300; ++i) {
    const step_plan p = draw_plan(random);
    read_plan(read, bytes_of(p));  // whatever it held before
    std::vector<size_t> sizes;
    step_plan::visit_arrays(p, [&](const char*, const auto& a) { sizes.push_back(a.size()); });
    size_t at = 0;
    step_plan::visit_arrays(
        read, [&](const char* name, const auto& a) { CHECK_MSG(a.size() == sizes[at++], "seed ", seed, ": ", name); });
    CHECK(read.session == p.session && read.slot == p.slot && read.widest_group == p.widest_group);
    CHECK(read.sampling.shape == p.sampling.shape);
    CHECK(read.token_ids == p.token_ids);
    CHECK_MSG(bytes_of(read) == bytes_of(p), "seed ", seed);
  }
}

TEST(bytes_that_are_no_plan_are_refused) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int i = 0; i < 20; ++i) {
    const std::vector<std::byte> bytes = bytes_of(draw_plan(random));
    step_plan read;
    for (size_t length = 0; length < bytes.size(); ++length)
      CHECK_ERROR(FT_ERROR_INTERNAL, "no plan", read_plan(read, std::span(bytes).first(length)));
    std::vector<std::byte> longer = bytes;
    longer.push_back({});
    CHECK_ERROR(FT_ERROR_INTERNAL, "no plan", read_plan(read, longer));
    // Others may be a plan, but then they are all of it.
    for (int change = 0; change < 200; ++change) {
      std::vector<std::byte> garbled = bytes;
      for (uint32_t n = 1 + random() % 4; n > 0; --n)
        garbled[random() % garbled.size()] = static_cast<std::byte>(random());
      try {
        read_plan(read, garbled);
        CHECK_MSG(bytes_of(read) == garbled, "seed ", seed);
      } catch (const error& e) {
        CHECK_EQ(e.code(), FT_ERROR_INTERNAL);
      }
    }
  }
}
