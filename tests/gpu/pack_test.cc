// The way of weights to the GPU: by many threads at once, each with a weight of its own, and by all threads of a pool
// with one; of every format, expanded and rounded as the reference says, to the bit.
#include <deque>

#include "backends/cuda/device/weight.h"
#include "gpu/compare.h"
#include "gpu/device.h"
#include "ops/gguf_blocks.h"
#include "ops/harness.h"

namespace ft::test {
namespace {

struct drawn_weight {
  drawn_weight(draw& d, int64_t rows) : rows(rows), columns(256 * d.integer(1, 4)) {
    const dtype type = d.one_of({dtype::q4_0, dtype::q8_0, dtype::q5_1, dtype::q6_k, dtype::f32, dtype::f16});
    bytes.resize(bytes_of(type, rows * columns));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(d.integer(0, 255) & 0x3b);  // no exponent of all ones
    tensor t(bytes.data(), type, {rows, columns});
    if (weight_format_of(type).any_strides && d.coin()) t.stride = {1, rows};
    stored = t;
  }

  std::unique_ptr<packed_weight> pack(thread_pool* pool) const {
    backend& device = gpu().device;
    return device.pack({&stored, 1}, computed_format(dtype::f16), device.device_memory(), pool);
  }

  void expect(const packed_weight& packed) const {
    std::vector<uint16_t> got(static_cast<size_t>(rows * columns));
    gpu().download(got.data(), cuda::on_gpu(packed).values.data, got.size() * sizeof(uint16_t));
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t r = 0; r < rows; ++r) {
      stored.expand(r, row.data());
      for (int64_t k = 0; k < columns; ++k)
        CHECK_MSG(got[static_cast<size_t>(r * columns + k)] == f32_to_f16(row[static_cast<size_t>(k)]),
                  stored.format->name, " [", rows, ", ", columns, "] at ", r, ", ", k);
    }
  }

  int64_t rows, columns;
  std::vector<uint8_t> bytes;
  stored_weight stored;
};

}  // namespace

TEST(weights_are_packed_by_many_threads_at_once) {
  draw d(run_seed());
  thread_pool pool(12);
  std::deque<drawn_weight> weights;
  for (int i = 0; i < 48; ++i) weights.emplace_back(d, d.integer(1, 3000));
  std::vector<std::unique_ptr<packed_weight>> packed(weights.size());
  pool.parallel_for_or_throw(static_cast<int64_t>(weights.size()), [&](int64_t i) {
    packed[static_cast<size_t>(i)] = weights[static_cast<size_t>(i)].pack(nullptr);
  });
  for (size_t i = 0; i < weights.size(); ++i) weights[i].expect(*packed[i]);
}

TEST(a_large_weight_is_packed_by_all_threads) {
  draw d(run_seed());
  thread_pool pool(5);
  for (int i = 0; i < 3; ++i) {
    const drawn_weight weight(d, d.integer(60000, 90000));
    weight.expect(*weight.pack(&pool));
  }
}

}  // namespace ft::test
