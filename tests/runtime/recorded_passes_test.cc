// Recorded passes, on a device that records what the CPU's operations are asked to do and replays just that: the same
// calls on the same memory.
#include "runtime/worker/recorded_passes.h"

#include <cstring>
#include <functional>
#include <vector>

#include "check.h"
#include "ops/op_table.h"

using namespace ft;
using namespace ft::runtime;

namespace {

using calls = std::vector<std::function<void()>>;
calls* under_record = nullptr;

template <auto op, class Args>
void call(exec& ex, const Args& args) {
  const auto run = [args, &scratch = ex.scratch] {
    exec on{cpu_backend(), cpu_backend().ops(), scratch};
    (on.ops.*op)(on, args);
  };
  under_record ? under_record->push_back(run) : run();
}

class recorder final : public backend {
 public:
  int recordings = 0, replays = 0;

  recorder() {
    table_.add = call<&op_table::add>;
    table_.argmax = call<&op_table::argmax>;
  }
  std::string name() const override { return "recorder"; }
  memory& device_memory() override { return host_memory(); }
  const op_table& ops() const override { return table_; }
  size_t free_memory() const override { return size_t{1} << 20; }
  bool records(void*) const override { return true; }

  std::unique_ptr<recorded_work> record(void*, const std::function<void()>& work) override {
    struct made_calls final : recorded_work {
      calls made;
      int* count = nullptr;
      void replay(void*) override {
        ++*count;
        for (const auto& c : made) c();
      }
    };
    auto r = std::make_unique<made_calls>();
    r->count = &replays;
    under_record = &r->made;
    try {
      work();
    } catch (...) {
      under_record = nullptr;
      throw;
    }
    under_record = nullptr;
    ++recordings;
    return r;
  }

  void upload(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void download_later(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void clear(void* to, size_t bytes, void*) override { std::memset(to, 0, bytes); }
  int64_t tokens_per_pass() const override { return 8; }
  dtype activation_type(dtype) const override { return dtype::f32; }
  bool computes_on(const weight_format&) const override { return false; }
  std::unique_ptr<packed_weight> pack(std::span<const stored_weight>, const weight_format&, memory&,
                                      thread_pool*) override {
    return nullptr;
  }
  std::unique_ptr<packed_bias> pack_bias(std::span<const float>, dtype, memory&) override { return nullptr; }
  size_t kv_page_bytes(const kv_layout&) const override { return 0; }

 private:
  op_table table_;
};

// Steps of a network that adds two uploaded rows and looks for the highest: what sessions do, in small.
struct steps {
  recorder device;
  arena activations{host_memory()}, scratch{host_memory()};
  recorded_passes<int64_t, tensor> recorded;
  int passes = 0;
  uint64_t other_memory = 0;  // its version

  steps() {  // enough memory for small steps, in one piece
    activations.allocate(1 << 16);
    scratch.allocate(1 << 16);
  }

  int32_t step(const std::vector<float>& a, const std::vector<float>& b, bool fails = false) {
    activations.reset();
    scratch.reset();
    exec ex{device, device.ops(), scratch};
    nn::run run{ex, activations};
    const auto width = static_cast<int64_t>(a.size());
    const tensor x = run.make({1, width}), y = run.make({1, width});
    ex.upload(x.data, a.data(), a.size() * sizeof(float));
    ex.upload(y.data, b.data(), b.size() * sizeof(float));
    const auto pass = [&](nn::run& r) {
      ++passes;
      const tensor sum = r.make({1, width}), index = r.activations.make(dtype::i32, {1});
      ops::add(r.ex, {.out = sum, .a = x, .b = y});
      if (fails) fail(FT_ERROR_CANCELLED, "in the middle");
      ops::argmax(r.ex, {.out = index, .x = sum});
      return index;
    };
    const auto* known = recorded.prepare(run, other_memory, width, pass);
    const tensor best = known ? known->replay(run) : pass(run);
    int32_t found = -7;
    ex.download(&found, best.data, sizeof found);
    return found;
  }
};

}  // namespace

TEST(the_third_pass_of_a_shape_is_a_recording_of_other_numbers) {
  steps s;
  CHECK_EQ(s.step({1, 0, 0}, {0, 3, 0}), 1);
  CHECK_EQ(s.device.recordings, 0);
  CHECK_EQ(s.step({4, 0, 0}, {0, 3, 0}), 0);
  CHECK_EQ(s.device.recordings, 1);
  CHECK_EQ(s.device.replays, 1);
  CHECK_EQ(s.step({1, 0, 9}, {0, 3, 0}), 2);
  CHECK_EQ(s.step({1, 0, 2}, {0, 3, 0}), 1);
  CHECK_EQ(s.device.replays, 3);
  CHECK_EQ(s.passes, 2);
}

TEST(every_shape_has_a_recording_of_its_own) {
  steps s;
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(s.step({1, 0, 0}, {0, 3, 0}), 1);
    CHECK_EQ(s.step({1, 0}, {0, 0}), 0);
  }
  CHECK_EQ(s.device.recordings, 2);
  CHECK_EQ(s.passes, 4);
}

TEST(recordings_are_forgotten_when_memory_moves) {
  steps s;
  for (int i = 0; i < 3; ++i) s.step({1, 0, 0}, {0, 3, 0});
  const std::vector<float> wide(100000, 1.0f);
  CHECK_EQ(s.step(wide, wide), 0);  // needs more memory, which reset() gathers before the next
  CHECK_EQ(s.step({1, 0, 5}, {0, 3, 0}), 2);
  CHECK_EQ(s.passes, 4);
  for (int i = 0; i < 3; ++i) CHECK_EQ(s.step({1, 0, 5}, {0, 3 + 3.0f * static_cast<float>(i), 0}), i == 0 ? 2 : 1);
  CHECK_EQ(s.passes, 5);
  ++s.other_memory;
  CHECK_EQ(s.step({9, 0, 5}, {0, 3, 0}), 0);
  CHECK_EQ(s.passes, 6);
}

TEST(the_recording_that_was_used_least_lately_gives_way) {
  steps s;
  const auto row = [](size_t width) { return std::vector<float>(width, 1.0f); };
  for (int i = 0; i < 2; ++i) s.step(row(1), row(1));
  for (size_t width = 2; width <= 256; ++width) {  // seen once each; and the first now and then
    s.step(row(width), row(width));
    if (width % 16 == 0) s.step(row(1), row(1));
  }
  CHECK_EQ(s.recorded.size(), size_t{256});
  const int before = s.passes;
  s.step(row(257), row(257));
  CHECK_EQ(s.recorded.size(), size_t{256});
  s.step(row(1), row(1));
  CHECK_EQ(s.passes, before + 1);  // the first is still there
  const int recordings = s.device.recordings;
  s.step(row(2), row(2));  // which was not
  CHECK_EQ(s.device.recordings, recordings);
}

TEST(a_pass_that_fails_while_it_is_recorded_is_recorded_later) {
  steps s;
  CHECK_EQ(s.step({1, 0, 0}, {0, 3, 0}), 1);
  CHECK_ERROR(FT_ERROR_CANCELLED, "in the middle", s.step({1, 0, 0}, {0, 3, 0}, true));
  CHECK_EQ(s.device.recordings, 0);
  CHECK_EQ(s.step({1, 0, 5}, {0, 3, 0}), 2);
  CHECK_EQ(s.step({6, 0, 5}, {0, 3, 0}), 0);
  CHECK_EQ(s.device.recordings, 1);
  CHECK_EQ(s.passes, 3);
}
