// One problem, two places: the same code computes it with the CPU's reference in float32 and on the GPU in some dtype,
// on the same values. What is drawn is first rounded to that dtype, so that the inputs of both are equal.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "gpu/device.h"
#include "ops/harness.h"

namespace ft::test {

inline float rounded(float x, dtype type) {
  if (type == dtype::f16) return cpu::to_float(cpu::from_float<cpu::f16>(x));
  if (type == dtype::bf16) return cpu::to_float(cpu::from_float<cpu::bf16>(x));
  return x;
}

inline guarded rounded(guarded x, dtype type) {
  x.each([&](float& v) { v = rounded(v, type); });
  return x;
}

// A tensor in a device's memory, poisoned before, after and between its rows.
class placed {
 public:
  placed(exec& ex, const guarded& host, dtype type);
  placed(placed&&) = default;

  const tensor& view() const { return view_; }

  // Its elements, in order. Throws where anything outside the rows was written.
  std::vector<float> values() const;

 private:
  exec* ex_;
  tensor view_;
  buffer memory_;
};

class place {
 public:
  // What a problem asks for as `type` is that here, or float32 for the reference.
  place(exec& ex, bool reference) : ex(ex), reference_(reference) {}

  dtype activations(dtype type) const { return reference_ ? dtype::f32 : type; }
  placed& put(const guarded& host, dtype type) { return tensors_.emplace_back(ex, host, activations(type)); }

  // Small weights and indices.
  const float* put(const std::vector<float>& v) { return static_cast<const float*>(copy(v.data(), v.size() * 4)); }
  tensor put(const std::vector<int32_t>& v) {
    return tensor(copy(v.data(), v.size() * 4), dtype::i32, {static_cast<int64_t>(v.size())});
  }
  // Any bytes, in memory of their own.
  void* copy(const void* data, size_t bytes) {
    buffer& b = buffers_.emplace_back(ex.device.device_memory(), std::max<size_t>(bytes, 1));
    ex.upload(b.data(), data, bytes);
    return b.data();
  }

  // A weight of these rows (host memory, f32): exactly them for the reference, in `type` on the GPU.
  const packed_weight* pack(const tensor& rows, dtype type) {
    return weights_
        .emplace_back(reference_ ? cpu::kernels_of(cpu::isa_level::reference).pack(std::span(&rows, 1), dtype::f32)
                                 : ex.device.pack(std::span(&rows, 1), type))
        .get();
  }

  exec& ex;

 private:
  bool reference_;
  std::deque<placed> tensors_;
  std::deque<buffer> buffers_;
  std::deque<std::unique_ptr<packed_weight>> weights_;
};

// How far a result in each dtype may be from the reference's.
struct bounds {
  bound f32, f16, bf16;
  bound of(dtype type) const { return type == dtype::f32 ? f32 : type == dtype::f16 ? f16 : bf16; }
};

using placed_problem = std::function<std::vector<float>(place&)>;

// Draws problems, in every dtype in turn, and compares the GPU with the reference.
void compare_with_reference(const char* op, int draws, const bounds& b,
                            const std::function<placed_problem(draw&, dtype)>& make);

// The seed of this run's draws, new each time; FT_TEST_SEED repeats one.
uint64_t run_seed();

// The largest share of its bound that any element used since the last call.
double take_worst_share();

}  // namespace ft::test
