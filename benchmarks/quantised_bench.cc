// Times `linear` on GGUF-quantised weights: decoding in GB/s of packed weights, as a share of what reading memory
// reaches in the same run; prompts in GOP/s; and all the products of one decoded token of SmolLM2-135M (Q4_1).
//
//   quantised_bench [threads] [filter]     a filter keeps the lines that contain it
//
// Calls are timed one by one and the best counts: the machine may be shared.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/kernels.h"
#include "ops/gguf_blocks.h"

namespace {

using ft::dtype;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The best of single calls f(i), i = 0, 1, .. for `budget` seconds.
template <class F>
double best_time(F&& f, double budget) {
  double best = 1e9;
  f(size_t{0});
  const double end = seconds() + budget;
  for (size_t i = 1; seconds() < end; ++i) {
    const double start = seconds();
    f(i);
    best = std::min(best, seconds() - start);
  }
  return best;
}

// Bytes a second that the threads read together, in the pieces of memory that a large product reads.
double read_rate(ft::thread_pool& pool) {
  constexpr int64_t count = int64_t{16} << 20, pieces = 16;
  std::vector<int> data(count, 1);
  std::vector<int> sums(static_cast<size_t>(pool.size()) * 16);
  const int64_t piece = count / pieces;
  const double t = best_time(
      [&](size_t i) {
        const int* begin = data.data() + static_cast<int64_t>(i % pieces) * piece;
        pool.parallel_for(piece, piece / (4 * pool.size()), [&](int64_t first, int64_t last, int worker) {
          int sum = 0;
          for (int64_t k = first; k < last; ++k) sum ^= begin[k];
          sums[static_cast<size_t>(worker) * 16] += sum;
        });
      },
      1.0);
  return static_cast<double>(piece) * sizeof(int) / t;
}

// Random blocks with scales of about 0.01.
std::vector<uint8_t> draw_blocks(dtype type, int64_t elements) {
  std::vector<uint8_t> data(bytes_of(type, elements));
  std::mt19937 random(1);
  for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
  const auto step = static_cast<size_t>(ft::traits(type).block_bytes);
  const uint16_t scale = ft::f32_to_f16(0.01f);
  for (size_t at = 0; at < data.size(); at += step) {
    const size_t field = type == dtype::q6_k ? at + 208 : at;
    std::memcpy(&data[field], &scale, sizeof scale);
    if (type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k)
      std::memcpy(&data[field + 2], &scale, sizeof scale);
  }
  return data;
}

struct matrix {
  dtype type;
  int64_t n, k;
};

class bench {
 public:
  bench(int threads, const char* filter) : pool_(threads), filter_(filter), read_(read_rate(pool_)) {
    std::printf("%s, %d threads; memory read %.1f GB/s\n", std::string(name(ft::cpu::active_level())).c_str(),
                pool_.size(), read_ * 1e-9);
  }

  // One product, its weight cold when there are few rows.
  void product(dtype type, int64_t m, int64_t n, int64_t k) {
    char line[64];
    std::snprintf(line, sizeof line, "%s m %ld n %ld k %ld", std::string(name(type)).c_str(), m, n, k);
    if (filter_ && !std::strstr(line, filter_)) return;
    double pack_time = 0;
    const size_t bytes = bytes_of(type, n * k);
    const auto weights = pack({type, n, k}, m <= 8 ? 1 + (size_t{128} << 20) / bytes : 1, pack_time);
    set_rows(m, std::max(n, k));
    const double t = best_time([&](size_t i) { multiply(*weights[i % weights.size()], m); }, 0.7);
    const double packed_bytes = static_cast<double>(weights[0]->bytes);
    std::printf("%-28s %9.2f us %7.1f GOP/s %6.1f GB/s %5.1f %% of memory, packed at %.2f GB/s\n", line, t * 1e6,
                2e-9 * static_cast<double>(m * n * k) / t, packed_bytes / t * 1e-9, 100 * packed_bytes / t / read_,
                static_cast<double>(bytes) / pack_time * 1e-9);
    std::fflush(stdout);
  }

  // The products of one token, in order, as the file stores them and with q, k, v and gate, up stacked.
  void smollm2_token() {
    const char* line = "smollm2-135m token";
    if (filter_ && !std::strstr(line, filter_)) return;
    constexpr dtype type = dtype::q4_1;
    std::vector<std::unique_ptr<ft::packed_weight>> weights;
    double pack_time = 0, bytes = 0;
    for (int layer = 0; layer < 30; ++layer)
      for (const matrix& shape : {matrix{type, 960, 576}, {type, 576, 576}, {type, 3072, 576}, {type, 576, 1536}})
        weights.push_back(std::move(pack(shape, 1, pack_time)[0]));
    weights.push_back(std::move(pack({dtype::q8_0, 49152, 576}, 1, pack_time)[0]));
    for (const auto& w : weights) bytes += static_cast<double>(w->bytes);
    set_rows(1, 49152);
    const double t = best_time(
        [&](size_t) {
          for (const auto& w : weights) multiply(*w, 1);
        },
        4.0);
    std::printf("%s: %.3f ms, %.1f MB at %.1f GB/s, %.1f %% of memory\n", line, t * 1e3, bytes * 1e-6, bytes / t * 1e-9,
                100 * bytes / t / read_);
  }

 private:
  std::vector<std::unique_ptr<ft::packed_weight>> pack(matrix shape, size_t copies, double& time) {
    std::vector<uint8_t> data = draw_blocks(shape.type, shape.n * shape.k);
    const ft::tensor part(data.data(), shape.type, {shape.n, shape.k});
    std::vector<std::unique_ptr<ft::packed_weight>> weights;
    const double start = seconds();
    for (size_t i = 0; i < copies; ++i) weights.push_back(ft::cpu_backend().pack(part, dtype::f32));
    time = (seconds() - start) / static_cast<double>(copies);
    return weights;
  }

  void set_rows(int64_t rows, int64_t width) {
    x_.resize(static_cast<size_t>(rows * width));
    out_.resize(x_.size());
    std::mt19937 random(2);
    for (float& v : x_) v = static_cast<float>(random() % 2001) / 1000 - 1;
  }

  void multiply(const ft::packed_weight& weight, int64_t m) {
    ft::backend& cpu = ft::cpu_backend();
    ft::exec ex{cpu, cpu.ops(), scratch_, &pool_};
    ft::linear_args args;
    args.weight = &weight;
    args.x = ft::tensor(x_.data(), dtype::f32, {m, weight.in_features});
    args.out = ft::tensor(out_.data(), dtype::f32, {m, weight.out_features});
    cpu.ops().linear(ex, args);
  }

  ft::thread_pool pool_;
  const char* filter_;
  double read_;
  ft::arena scratch_{ft::host_memory()};
  std::vector<float> x_, out_;
};

}  // namespace

int main(int argc, char** argv) {
  bench b(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? argv[2] : nullptr);
  constexpr dtype types[] = {dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                             dtype::q8_0, dtype::q4_k, dtype::q5_k, dtype::q6_k};
  b.smollm2_token();
  for (dtype type : types)
    for (auto [n, k] : {std::pair<int64_t, int64_t>{4096, 4096}, {4096, 14336}}) b.product(type, 1, n, k);
  for (auto [n, k] : {std::pair<int64_t, int64_t>{960, 576}, {576, 576}, {3072, 576}, {576, 1536}})
    b.product(dtype::q4_1, 1, n, k);
  b.product(dtype::q8_0, 1, 49152, 576);
  for (int64_t m : {2, 4, 8, 16}) b.product(dtype::q4_1, m, 3072, 576);
  for (auto [n, k] : {std::pair<int64_t, int64_t>{960, 576}, {576, 576}, {3072, 576}, {576, 1536}})
    b.product(dtype::q4_1, 128, n, k);
  for (dtype type : types) b.product(type, 128, 4096, 4096);
}
