// What the benchmarks on the GPU share: tensors full of normal values, and the time of what a graph records.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <deque>
#include <memory>

#include "backends/cuda/device/weight.h"
#include "backends/cuda/kernel/launch.h"
#include "gpu/compare.h"
#include "ops/elementwise.h"

namespace ft::test {

using cuda::check;

inline constexpr int replays = 9;

inline cudaStream_t stream() { return cuda::stream_of(gpu()); }

// The median of the milliseconds of several launches of what `record` captures.
template <class F>
double graph_milliseconds(F&& record) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t runnable = nullptr;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "capture");
  record();
  check(cudaStreamEndCapture(stream(), &graph), "capture");
  check(cudaGraphInstantiate(&runnable, graph, 0), "graph");
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < replays + 2; ++i) {
    check(cudaEventRecord(begin, stream()), "event");
    check(cudaGraphLaunch(runnable, stream()), "graph");
    check(cudaEventRecord(end, stream()), "event");
    check(cudaEventSynchronize(end), "graph");
    float elapsed = 0;
    check(cudaEventElapsedTime(&elapsed, begin, end), "event");
    if (i >= 2) times.push_back(elapsed);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(runnable);
  cudaGraphDestroy(graph);
  std::nth_element(times.begin(), times.begin() + replays / 2, times.end());
  return times[replays / 2];
}

// Bytes a second, read and written ones counted, of a pass over the device's memory.
inline double copy_rate() {
  static const double rate = [] {
    const int64_t width = 1 << 14;
    const size_t bytes = size_t{1} << 30;
    const buffer from(gpu().device.device_memory(), bytes), to(gpu().device.device_memory(), bytes);
    check(cudaMemsetAsync(from.data(), 1, bytes, stream()), "fill");
    const tensor x(from.data(), dtype::f32, {width, width}), out(to.data(), dtype::f32, {width, width});
    return 2 * static_cast<double>(bytes) / graph_milliseconds([&] { ops::scale(gpu(), {.out = out, .x = x}); }) * 1e3;
  }();
  return rate;
}

// Device tensors full of normal values, repeated from a block of them.
class tensors {
 public:
  tensor make(dtype type, std::initializer_list<int64_t> shape) {
    tensor t(nullptr, type, shape);
    t.data = fill(type, t.size());
    return t;
  }

  void* fill(dtype type, int64_t elements) {
    const size_t bytes = bytes_of(type, elements);
    buffer& b = buffers_.emplace_back(gpu().device.device_memory(), std::max<size_t>(bytes, 64));
    repeat(blocks_[static_cast<size_t>(type)], 1, type, b.data(), bytes);
    return b.data();
  }

  tensor integers(const std::vector<int32_t>& v) {
    buffer& b = buffers_.emplace_back(gpu().device.device_memory(), v.size() * 4);
    gpu().upload(b.data(), v.data(), v.size() * 4);
    return tensor(b.data(), dtype::i32, {static_cast<int64_t>(v.size())});
  }

  // Of small values: products of thousands of features stay numbers.
  const packed_weight* weight(int64_t rows, int64_t columns) {
    auto made =
        std::make_unique<cuda::cuda_weight>(gpu().device.device_memory(), computed_format(dtype::f16), rows, columns);
    repeat(weights_block_, 1.f / 64, dtype::f16, made->values.data, made->bytes);
    return weights_.emplace_back(std::move(made)).get();
  }

  const packed_bias* bias(int64_t size) {
    draw d(run_seed());
    backend& device = gpu().device;
    return biases_.emplace_back(device.pack_bias(d.normals(size), dtype::f16, device.device_memory())).get();
  }

  void clear() {
    buffers_.clear();
    weights_.clear();
    biases_.clear();
  }

 private:
  void repeat(buffer& block, float deviation, dtype type, void* to, size_t bytes) {
    if (!block.data()) block = normals(deviation, type);
    for (size_t at = 0; at < bytes; at += block.bytes())
      check(cudaMemcpyAsync(static_cast<char*>(to) + at, block.data(), std::min(block.bytes(), bytes - at),
                            cudaMemcpyDeviceToDevice, stream()),
            "fill");
  }

  static buffer normals(float deviation, dtype type) {
    draw d(run_seed());
    const placed values(gpu(), guarded({1 << 10, 1 << 10}).fill(d, deviation), type);
    const tensor& t = values.view();
    buffer b(gpu().device.device_memory(), bytes_of(type, t.size()));
    check(cudaMemcpyAsync(b.data(), t.data, b.bytes(), cudaMemcpyDeviceToDevice, stream()), "fill");
    check(cudaStreamSynchronize(stream()), "fill");
    return b;
  }

  std::deque<buffer> buffers_;
  std::deque<std::unique_ptr<packed_weight>> weights_;
  std::deque<std::unique_ptr<packed_bias>> biases_;
  buffer blocks_[3], weights_block_;
};

}  // namespace ft::test
