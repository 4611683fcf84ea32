// What ranks that share memory say to one another, against what each could reckon alone: drawn shapes, types and
// numbers of ranks, in slots that hold little, so that every tensor goes in many slices.
#include "comm/shared_memory.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <thread>

#include "check.h"
#include "ops/gguf_blocks.h"

using namespace ft;

namespace {

// body(communicator, exec) on every rank at once; each one's error, "" where there was none.
std::vector<std::string> on_all(shared_memory_group& group, int size,
                                const std::function<void(communicator&, exec&)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      arena scratch(host_memory());
      exec ex{cpu_backend(), cpu_backend().ops(), scratch};
      try {
        body(group.rank(r), ex);
      } catch (const std::exception& e) {
        errors[static_cast<size_t>(r)] = e.what();
      }
    });
  for (std::thread& t : threads) t.join();
  return errors;
}

// The number that rank r has at place i of its k-th tensor; small, so that sums are exact in every type.
float value(int r, int64_t i, int k) { return static_cast<float>((r * 7 + i * 3 + k) % 11 - 5); }

struct held {
  held(dtype type, int64_t rows, int64_t columns)
      : memory(host_memory(), std::max<size_t>(1, bytes_of(type, rows * columns))),
        view(memory.data(), type, {rows, columns}) {}
  void set(int64_t i, float v) {
    if (view.type == dtype::f32) view.as<float>()[i] = v;
    if (view.type == dtype::f16) view.as<uint16_t>()[i] = f32_to_f16(v);
    if (view.type == dtype::bf16) view.as<uint16_t>()[i] = f32_to_bf16(v);
    if (view.type == dtype::i32) view.as<int32_t>()[i] = static_cast<int32_t>(v);
  }
  float at(int64_t i) const {
    if (view.type == dtype::f16) return f16_to_f32(view.as<uint16_t>()[i]);
    if (view.type == dtype::bf16) return bf16_to_f32(view.as<uint16_t>()[i]);
    if (view.type == dtype::i32) return static_cast<float>(view.as<int32_t>()[i]);
    return view.as<float>()[i];
  }
  buffer memory;
  tensor view;
};

struct drawn_call {
  int what;  // sum, gather, hand on, barrier
  dtype type;
  int64_t rows, columns;
  std::vector<int64_t> offsets;
};

std::vector<drawn_call> draw_calls(std::mt19937& random, int size, int count) {
  std::vector<drawn_call> calls;
  for (int i = 0; i < count; ++i) {
    drawn_call c{static_cast<int>(random() % 4),
                 std::array{dtype::f32, dtype::f16, dtype::bf16}[random() % 3],
                 static_cast<int64_t>(random() % 9),
                 static_cast<int64_t>(1 + random() % 300),
                 {0}};
    if (c.what == 2 && random() % 2) c.type = dtype::i32;
    for (int r = 0; r < size; ++r) c.offsets.push_back(c.offsets.back() + static_cast<int64_t>(random() % 200));
    calls.push_back(std::move(c));
  }
  return calls;
}

void check_call(communicator& c, exec& ex, const drawn_call& call, int k) {
  const int size = c.size(), me = c.rank();
  switch (call.what) {
    case 0: {
      held x(call.type, call.rows, call.columns);
      for (int64_t i = 0; i < x.view.size(); ++i) x.set(i, value(me, i, k));
      CHECK_EQ(c.all_reduce(ex, x.view, me == 0 && k % 3 == 0), k % 3 == 0);  // rank 0's alone counts
      for (int64_t i = 0; i < x.view.size(); ++i) {
        float sum = 0;
        for (int r = 0; r < size; ++r) sum += value(r, i, k);
        CHECK_EQ(x.at(i), sum);
      }
      return;
    }
    case 1: {
      const auto width = [&](int r) {
        return call.offsets[static_cast<size_t>(r) + 1] - call.offsets[static_cast<size_t>(r)];
      };
      held x(call.type, call.rows, width(me)), out(call.type, call.rows, call.offsets.back());
      for (int64_t i = 0; i < x.view.size(); ++i) x.set(i, value(me, i, k));
      c.all_gather(ex, x.view, out.view, call.offsets);
      for (int64_t row = 0; row < call.rows; ++row)
        for (int r = 0; r < size; ++r)
          for (int64_t column = 0; column < width(r); ++column)
            CHECK_EQ(out.at(row * call.offsets.back() + call.offsets[static_cast<size_t>(r)] + column),
                     value(r, row * width(r) + column, k));
      return;
    }
    case 2: {  // from each to the next
      held x(call.type, call.rows, call.columns), got(call.type, call.rows, call.columns);
      for (int64_t i = 0; i < x.view.size(); ++i) x.set(i, value(me, i, k));
      if (size == 1) return;
      const int next = (me + 1) % size, before = (me + size - 1) % size;
      if (me % 2 == 0) c.send(ex, x.view, next, k % 2);
      const bool stop = c.receive(ex, got.view, before);
      if (me % 2 != 0) c.send(ex, x.view, next, k % 2);
      CHECK_EQ(stop, k % 2 != 0);
      for (int64_t i = 0; i < got.view.size(); ++i) CHECK_EQ(got.at(i), value(before, i, k));
      return;
    }
    default:
      c.barrier(ex);
  }
}

}  // namespace

TEST(drawn_calls_give_what_each_rank_could_reckon) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int size = 1; size <= 5; ++size)
    for (size_t slot_bytes : {size_t{64}, size_t{256}, size_t{1} << 16}) {
      shared_memory_group group(size, slot_bytes);
      const auto calls = draw_calls(random, size, 200);
      const auto errors = on_all(group, size, [&](communicator& c, exec& ex) {
        std::mt19937 delay(static_cast<uint32_t>(c.rank()) + seed);
        for (size_t k = 0; k < calls.size(); ++k) {
          if (delay() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(delay() % 200));
          check_call(c, ex, calls[k], static_cast<int>(k));
        }
      });
      for (const std::string& e : errors) CHECK_MSG(e.empty(), "seed ", seed, ", ", size, " ranks: ", e);
    }
}

TEST(sums_are_those_of_the_ranks_in_their_order) {
  shared_memory_group group(3);
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16}) {
    const auto errors = on_all(group, 3, [&](communicator& c, exec& ex) {
      held x(type, 1, 1);
      x.set(0, std::array{3e4f, -3e4f, 1e-3f}[static_cast<size_t>(c.rank())]);
      const std::array parts{3e4f, -3e4f, 1e-3f};
      held rounded(type, 1, 3);
      for (int64_t r = 0; r < 3; ++r) rounded.set(r, parts[static_cast<size_t>(r)]);
      const float sum = (rounded.at(0) + rounded.at(1)) + rounded.at(2);  // another order gives 0
      c.all_reduce(ex, x.view, false);
      held expected(type, 1, 1);
      expected.set(0, sum);
      CHECK_EQ(x.at(0), expected.at(0));
    });
    for (const std::string& e : errors) CHECK_MSG(e.empty(), e);
  }
}

TEST(whoever_waits_is_told_when_a_rank_leaves_and_the_group_can_be_used_again) {
  for (int size = 2; size <= 4; ++size) {
    shared_memory_group group(size, 64);
    for (int round = 0; round < 20; ++round) {
      const int leaves = round % size;
      const auto errors = on_all(group, size, [&](communicator& c, exec& ex) {
        held x(dtype::f32, 3, 40);
        for (int k = 0; k < 3; ++k) {
          for (int64_t i = 0; i < x.view.size(); ++i) x.set(i, 1);
          c.all_reduce(ex, x.view, false);
        }
        if (c.rank() == leaves) {
          if (round % 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          c.abort(FT_ERROR_OUT_OF_MEMORY, "no memory on a rank");
          return;
        }
        if (round % 3 == 0)
          c.barrier(ex);
        else if (round % 3 == 1)
          c.all_reduce(ex, x.view, false);
        else
          c.receive(ex, x.view, leaves);
      });
      for (int r = 0; r < size; ++r) CHECK_EQ(errors[static_cast<size_t>(r)], r == leaves ? "" : "no memory on a rank");
      group.rank(0).recover();
    }
    const auto errors = on_all(group, size, [&](communicator& c, exec& ex) {
      check_call(c, ex, {0, dtype::f32, 3, 50, {}}, 1);
      check_call(c, ex, {2, dtype::f32, 3, 50, {}}, 2);
    });
    for (const std::string& e : errors) CHECK_MSG(e.empty(), e);
  }
}

TEST(ranks_that_do_not_do_the_same_are_told) {
  for (int kind = 0; kind < 3; ++kind) {
    shared_memory_group group(2);
    const auto errors = on_all(group, 2, [&](communicator& c, exec& ex) {
      held x(kind == 1 && c.rank() ? dtype::f16 : dtype::f32, 2, kind == 0 && c.rank() ? 8 : 4);
      if (kind == 2 && c.rank())
        c.barrier(ex);
      else
        c.all_reduce(ex, x.view, false);
    });
    for (const std::string& e : errors) CHECK_EQ(e, "the ranks of a model do not do the same");
  }
}

TEST(a_rehearsal_says_nothing_and_waits_for_nobody) {
  shared_memory_group group(2);
  arena scratch(host_memory());
  exec ex{cpu_backend(), cpu_backend().ops(), scratch};
  ex.rehearses = true;
  held x(dtype::f32, 2, 4);
  communicator& c = group.rank(0);
  c.all_reduce(ex, x.view, true);
  c.send(ex, x.view, 1, true);
  c.receive(ex, x.view, 1);
  c.barrier(ex);
  CHECK(group.done() == shared_memory_group::counts{});
}
