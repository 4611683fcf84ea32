// One problem, several places: the same code computes it with the CPU's reference in float32, on a level of the CPU's
// kernels, and on a GPU in some dtype, on the same values. What is drawn is first rounded to that dtype, so that the
// inputs of all are equal.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "ops/harness.h"

namespace ft::test {

inline float rounded(float x, dtype type) {
  if (type == dtype::f16) return to_float(from_float<f16>(x));
  if (type == dtype::bf16) return to_float(from_float<bf16>(x));
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
  // What a problem asks for as `type` is that here, or float32 on the CPU, whose activations are.
  place(exec& ex, bool on_cpu) : ex(ex), on_cpu_(on_cpu) {}

  dtype activations(dtype type) const { return on_cpu_ ? dtype::f32 : type; }
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

  // A weight of these rows (host memory, f32): exactly them on the CPU, for the reference, in `type` on the GPU.
  const packed_weight* pack(const tensor& rows, dtype type) {
    return weights_
        .emplace_back(on_cpu_ ? test::pack(cpu::kernels_of(cpu::isa_level::reference), {rows}, dtype::f32)
                              : ex.device.pack(rows, type))
        .get();
  }

  // The bias of a layer that computes in `type`; null where there are no values.
  const packed_bias* pack_bias(const std::vector<float>& values, dtype type) {
    if (values.empty()) return nullptr;
    backend& device = on_cpu_ ? cpu_backend() : ex.device;
    return biases_.emplace_back(device.pack_bias(values, activations(type), device.device_memory())).get();
  }

  exec& ex;

 private:
  bool on_cpu_;
  std::deque<placed> tensors_;
  std::deque<buffer> buffers_;
  std::deque<std::unique_ptr<packed_weight>> weights_;
  std::deque<std::unique_ptr<packed_bias>> biases_;
};

using placed_problem = std::function<std::vector<float>(place&)>;

// Draws problems, and compares every level of the CPU's kernels with the reference.
inline void compare_levels(const char* op, int draws, bound b,
                           const std::function<placed_problem(draw&, dtype)>& make) {
  compare_with_reference(op, draws, b, [&](draw& d) -> problem {
    return [p = make(d, dtype::f32)](exec& ex) {
      place on(ex, true);
      return p(on);
    };
  });
}

}  // namespace ft::test
