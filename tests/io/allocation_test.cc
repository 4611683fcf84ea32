// Memory that runs out at any allocation while a checkpoint is opened, read and closed: always an exception, never the
// end of the process, and nothing lost (LeakSanitizer sees to that).
#include <cstdlib>
#include <limits>
#include <new>
#include <string>

#include "bytes.h"
#include "folder.h"
#include "io/checkpoint.h"

namespace {

constexpr long never = std::numeric_limits<long>::max();
long allocations_left = never;
bool fail_for_good = false;  // whether later allocations fail too

void* allocate(size_t bytes) {
  if (allocations_left != never && allocations_left-- <= 0) {
    if (!fail_for_good) allocations_left = never;
    throw std::bad_alloc();
  }
  if (void* data = std::malloc(bytes ? bytes : 1)) return data;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t bytes) { return allocate(bytes); }
void* operator new[](size_t bytes) { return allocate(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }

namespace ft::io {
namespace {

// Runs `body` again and again, failing its first allocation, its second, ... until it comes through. Returns how many
// failures that took.
template <class Body>
int exhaust(Body body, bool for_good) {
  for (int n = 0;; ++n) {
    CHECK(n < 100'000);
    fail_for_good = for_good;
    allocations_left = n;
    bool passed = true;
    try {
      body();
    } catch (const std::bad_alloc&) {
      passed = false;
    } catch (const error& e) {
      allocations_left = never;
      throw test::failure(cat("allocation ", n, ": ", e.what()));
    }
    const bool failed_one = allocations_left == never || allocations_left < 0;
    allocations_left = never;
    if (passed && !failed_one) return n;
    CHECK_MSG(!passed, "a failed allocation went unnoticed: ", n);
  }
}

void open_and_read(const std::string& source) {
  const auto c = checkpoint::open(source);
  if (c->format() == checkpoint_format::gguf) return;
  const auto rope = c->config().object("rope_scaling");
  if (!rope || rope->number("factor") != 8 || !c->read_json("1_Pooling/config.json")) throw std::exception();
}

TEST(allocation_failures_opening_a_folder) {
  test::folder f;
  f.write("config.json", R"({"architectures": ["LlamaForCausalLM with a name too long to be kept in place"],
                             "rope_scaling": {"factor": 8.0, "list": [[1, 2], {"a": {"b": []}}, "text"]}})")
      .write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true, "deep": [[[{"x": [1]}]]]})")
      .write("model.safetensors.index.json", R"({"weight_map": {"first": "1.safetensors", "second": "2.safetensors"}})")
      .write("1.safetensors",
             test::safetensors(R"({"first": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})", "1"))
      .write("2.safetensors",
             test::safetensors(R"({"second": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})", "2"));
  for (bool for_good : {false, true}) CHECK(exhaust([&] { open_and_read(f.path()); }, for_good) > 50);
}

TEST(allocation_failures_opening_gguf) {
  using test::gguf_spec;
  gguf_spec spec;
  const std::string text = "a string that is too long to be kept in place";
  spec.pairs = {gguf_spec::pair("general.architecture", 8, gguf_spec::string(text)),
                gguf_spec::array("tokens", 8, 2, gguf_spec::string(text) + gguf_spec::string(text)),
                gguf_spec::array("numbers", 4, 2, test::u32(1) + test::u32(2))};
  spec.tensors = {gguf_spec::tensor(text, {4}, 0, 0), gguf_spec::tensor("b", {4}, 0, 32)};
  spec.data = test::counting(48);
  test::folder f;
  f.write("model.gguf", spec.bytes());
  for (bool for_good : {false, true}) CHECK(exhaust([&] { open_and_read(f.path("model.gguf")); }, for_good) > 20);
}

TEST(allocation_failures_while_refusing) {
  test::folder f;
  f.write("config.json", R"({"a": {"b": [1, {"c": [2, 3]}, "text that is too long to be kept in place"], "b": 1}})")
      .write("model.safetensors", test::safetensors("{}", ""));
  const auto refuse = [&] {
    try {
      checkpoint::open(f.path());
    } catch (const error& e) {
      if (e.code() != FT_ERROR_CHECKPOINT) throw;
    }
  };
  for (bool for_good : {false, true}) CHECK(exhaust(refuse, for_good) > 10);
}

}  // namespace
}  // namespace ft::io
