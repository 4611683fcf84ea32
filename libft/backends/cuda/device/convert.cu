#include "backends/cuda/device/convert.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int threads = 256;

template <class To, class From>
__global__ void convert_elements(To* to, const From* from, int64_t count) {
  const int64_t step = int64_t{threads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x; i < count; i += step)
    to[i] = narrow<To>(widen(from[i]));
}

}  // namespace

void convert(const tensor& to, const tensor& from, cudaStream_t stream) {
  const int64_t count = from.size();
  if (count == 0) return;
  const int64_t most_blocks = 4096;
  const auto blocks = static_cast<unsigned>(std::min(ceil_div(count, threads), most_blocks));
  with_float(to.type, [&](auto target) {
    with_float(from.type, [&](auto source) {
      convert_elements<<<blocks, threads, 0, stream>>>(to.as<decltype(target)>(), from.as<const decltype(source)>(),
                                                       count);
    });
  });
  check(cudaGetLastError(), "loading weights");
}

}  // namespace ft::cuda
