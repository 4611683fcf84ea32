#include "backends/cuda/device/upload.h"

#include <algorithm>
#include <cstring>

#include "backends/cuda/device/convert.h"
#include "backends/cuda/kernel/launch.h"
#include "ops/gguf_blocks.h"

namespace ft::cuda {
namespace {

constexpr int64_t stage_bytes = int64_t{8} << 20;

// Rows [begin, end) of `part` as dense rows.
template <class T>
void gather_strided(const tensor& part, int64_t begin, int64_t end, T* to) {
  constexpr int64_t tile = 16;  // of a transposed matrix, rows that share a cache line
  const int64_t columns = part.dim(1);
  for (int64_t first = begin; first < end; first += tile)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = first; r < std::min(first + tile, end); ++r)
        to[(r - begin) * columns + c] = part.as<const T>()[r * part.stride[0] + c * part.stride[1]];
}

void gather(const tensor& part, int64_t begin, int64_t end, void* to) {
  const int64_t columns = part.dim(1);
  if (is_quantised(part.type)) {
    const char* rows = part.as<const char>();
    for (int64_t r = begin; r < end; ++r)
      dequantise_row(part.type, rows + bytes_of(part.type, r * part.stride[0]), columns,
                     static_cast<float*>(to) + (r - begin) * columns);
  } else if (columns == 1 || part.stride[1] == 1) {
    const size_t row_bytes = bytes_of(part.type, columns);
    const char* rows = part.as<const char>();
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(static_cast<char*>(to) + static_cast<size_t>(r - begin) * row_bytes,
                  rows + bytes_of(part.type, r * part.stride[0]), row_bytes);
  } else if (part.type == dtype::f32) {
    gather_strided(part, begin, end, static_cast<uint32_t*>(to));
  } else {
    gather_strided(part, begin, end, static_cast<uint16_t*>(to));
  }
}

}  // namespace

uploader::~uploader() {
  for (stage& s : stages_) {
    cudaFreeHost(s.host);
    cudaFree(s.device);
    if (s.free) cudaEventDestroy(s.free);
  }
  if (stream_) cudaStreamDestroy(stream_);
}

void uploader::open() {
  if (!stream_) check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  for (stage& s : stages_) {
    if (!s.host) check(cudaMallocHost(&s.host, stage_bytes), "taking pinned memory to load weights through");
    if (!s.device) check(cudaMalloc(&s.device, stage_bytes), "taking memory to load weights through");
    if (!s.free) check(cudaEventCreateWithFlags(&s.free, cudaEventDisableTiming), "making an event");
  }
}

void uploader::upload(const tensor& to, const tensor& part) {
  std::lock_guard lock(mutex_);
  open();
  const dtype staged = is_quantised(part.type) ? dtype::f32 : part.type;
  const int64_t columns = part.dim(1), row_bytes = static_cast<int64_t>(bytes_of(staged, columns));
  if (row_bytes > stage_bytes)
    fail(FT_ERROR_UNSUPPORTED, "a weight of ", columns, " columns is too wide to load; there is room for ",
         stage_bytes / 4);
  const int64_t piece = std::max<int64_t>(1, stage_bytes / std::max<int64_t>(1, row_bytes));
  int turn = 0;
  for (int64_t begin = 0; begin < part.dim(0); begin += piece, turn ^= 1) {
    stage& s = stages_[turn];
    const int64_t end = std::min(begin + piece, part.dim(0));
    check(cudaEventSynchronize(s.free), "loading weights");
    gather(part, begin, end, s.host);
    const tensor target = to.slice(0, begin, end);
    const auto bytes = static_cast<size_t>((end - begin) * row_bytes);
    void* direct = staged == to.type ? target.data : s.device;
    check(cudaMemcpyAsync(direct, s.host, bytes, cudaMemcpyHostToDevice, stream_), "loading weights");
    if (direct != target.data) convert(target, tensor(s.device, staged, {end - begin, columns}), stream_);
    check(cudaEventRecord(s.free, stream_), "loading weights");
  }
  check(cudaStreamSynchronize(stream_), "loading weights");
}

}  // namespace ft::cuda
