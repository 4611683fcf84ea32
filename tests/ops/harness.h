// What the tests of operations share: drawn tensors with guard zones around and between their rows, executions on every
// level of kernels, and comparison within a stated bound.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>

#include "backends/cpu/kernels.h"
#include "check.h"
#include "core/half.h"
#include "ops/pack.h"

namespace ft::test {

class draw {
 public:
  explicit draw(uint64_t seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  bool coin() { return integer(0, 1); }
  float normal(float deviation = 1) { return std::normal_distribution<float>(0, deviation)(engine_); }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[integer(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  std::vector<float> normals(int64_t n, float deviation = 1) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = normal(deviation);
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// A tensor in memory of its own, poisoned with a NaN that no computation makes: before, after and between its rows
// too. intact() tells whether everything outside the tensor is still poison.
class guarded {
 public:
  guarded() = default;

  // [rows, width] or [rows, heads, width]: `gap` elements between rows.
  guarded(std::initializer_list<int64_t> shape, int64_t gap = 0) {
    view_ = tensor(nullptr, dtype::f32, shape);
    int64_t row = 1;
    for (int i = 1; i < view_.rank; ++i) row *= view_.shape[i];
    view_.stride[0] = row + gap;
    storage_.assign(static_cast<size_t>(view_.shape[0] * (row + gap) + 2 * guard), poison());
  }

  guarded& fill(draw& d, float deviation = 1) {
    each([&](float& x) { x = d.normal(deviation); });
    return *this;
  }
  guarded& fill(float value) {
    each([&](float& x) { x = value; });
    return *this;
  }

  tensor view() const {
    tensor t = view_;
    t.data = const_cast<float*>(storage_.data()) + guard;
    return t;
  }

  // Calls f with every element, in order.
  template <class F>
  void each(F&& f) {
    int64_t row = 1;
    for (int i = 1; i < view_.rank; ++i) row *= view_.shape[i];
    for (int64_t r = 0; r < view_.shape[0]; ++r)
      for (int64_t i = 0; i < row; ++i) f(storage_[static_cast<size_t>(guard + r * view_.stride[0] + i)]);
  }

  std::vector<float> values() {
    std::vector<float> v;
    each([&](float& x) { v.push_back(x); });
    return v;
  }

  bool intact() {
    guarded copy = *this;
    copy.each([](float& x) { x = poison(); });
    return std::all_of(copy.storage_.begin(), copy.storage_.end(),
                       [](float x) { return std::bit_cast<uint32_t>(x) == poison_bits; });
  }

 private:
  static constexpr int64_t guard = 32;
  static constexpr uint32_t poison_bits = 0x7fc0dead;
  static float poison() { return std::bit_cast<float>(poison_bits); }

  std::vector<float> storage_;
  tensor view_;
};

inline tensor vector_of(const std::vector<int32_t>& v) {
  return tensor(const_cast<int32_t*>(v.data()), dtype::i32, {static_cast<int64_t>(v.size())});
}

// Replaces some of an embedding's ids, each in [0, rows), by references to chosen tokens, which are returned; some of
// these were never chosen.
inline std::vector<int32_t> choose_later(draw& d, int64_t rows, std::vector<int32_t>& ids) {
  std::vector<int32_t> chosen(static_cast<size_t>(d.integer(1, 9)));
  for (int32_t& c : chosen) c = static_cast<int32_t>(d.integer(-1, rows - 1));
  for (int32_t& id : ids)
    if (d.coin()) id = static_cast<int32_t>(-d.integer(1, static_cast<int64_t>(chosen.size())));
  return chosen;
}

// Kernels of one level with threads and scratch of their own.
struct machine {
  machine(cpu::isa_level level, int threads)
      : level(level), threads(threads), pool(threads), ex{cpu_backend(), cpu::kernels_of(level).ops, scratch, &pool} {}

  std::string name() const { return cat(cpu::name(level), " with ", threads, " threads"); }

  cpu::isa_level level;
  int threads;
  thread_pool pool;
  arena scratch{host_memory()};
  exec ex;
};

inline machine& reference() {
  static machine m(cpu::isa_level::reference, 1);
  return m;
}

// Every available level above the reference, with 1, 2 and 3 threads.
inline std::vector<std::unique_ptr<machine>>& machines() {
  static std::vector<std::unique_ptr<machine>> all = [] {
    std::vector<std::unique_ptr<machine>> list;
    for (cpu::isa_level level : cpu::available_levels())
      for (int threads = 1; threads <= 3 && level != cpu::isa_level::reference; ++threads)
        list.push_back(std::make_unique<machine>(level, threads));
    return list;
  }();
  return all;
}

struct bound {
  double absolute, relative;
};

// |got - want| <= absolute + relative |want| everywhere; a NaN anywhere fails.
inline void expect_close(const std::vector<float>& got, const std::vector<float>& want, bound b,
                         const std::string& what) {
  CHECK_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::fabs(double{got[i]} - want[i]) <= b.absolute + b.relative * std::fabs(want[i])))
      throw failure(cat(what, ": element ", i, " is ", got[i], ", not ", want[i]));
}

inline void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want, const std::string& what) {
  CHECK_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    if (std::bit_cast<uint32_t>(got[i]) != std::bit_cast<uint32_t>(want[i]))
      throw failure(cat(what, ": element ", i, " is ", got[i], ", not to the bit ", want[i]));
}

// One drawn problem: run() computes it on some machine and returns the outputs' elements.
using problem = std::function<std::vector<float>(exec&)>;

// Draws problems and compares every machine with the reference.
inline void compare_with_reference(const char* op, int draws, bound b, const std::function<problem(draw&)>& make) {
  for (int i = 0; i < draws; ++i) {
    draw d(static_cast<uint64_t>(i) + 1);
    const problem p = make(d);
    const std::vector<float> want = p(reference().ex);
    for (auto& m : machines()) expect_close(p(m->ex), want, b, cat(op, ", draw ", i, ", ", m->name()));
  }
}

}  // namespace ft::test
