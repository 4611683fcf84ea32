// Times `linear` on dense weights: prompts in GFLOP/s, decoding in GB/s of weights, each as a share of what this
// machine can do, measured in the same run, and beside OpenBLAS where its library is named by FT_OPENBLAS.
//
//   gemm_bench [threads] [filter]     a filter keeps the lines that contain it
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/weight_memory.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using ft::dtype;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The best of runs that together last `budget` seconds: the machine may be shared.
template <class F>
double best_time(F&& f, double budget = 0.5) {
  double best = 1e9;
  f();
  for (const double end = seconds() + budget; seconds() < end;) {
    const double start = seconds();
    f();
    best = std::min(best, seconds() - start);
  }
  return best;
}

// ---- what the machine can do ----

#if defined(__x86_64__)

template <class Step>
[[gnu::always_inline]] inline double chains(Step step, double operations) {
  constexpr int64_t loops = 2'000'000;
  const double t = best_time([&] { step(loops); }, 0.3);
  return operations * loops / t;
}

__attribute__((target("avx512f"))) void f32_chains(int64_t loops) {
  __m512 s[12], x = _mm512_set1_ps(0.5f);
  for (auto& v : s) v = _mm512_setzero_ps();
  for (int64_t i = 0; i < loops; ++i) {
#pragma GCC unroll 12
    for (auto& v : s) v = _mm512_fmadd_ps(x, x, v);
    asm volatile("" : "+v"(x));
  }
  for (auto& v : s) asm volatile("" : : "v"(v));
}

__attribute__((target("avx512f,avx512bf16"))) void bf16_chains(int64_t loops) {
  __m512 s[12];
  __m512i x = _mm512_set1_epi32(0x3f003f00);
  for (auto& v : s) v = _mm512_setzero_ps();
  for (int64_t i = 0; i < loops; ++i) {
#pragma GCC unroll 12
    for (auto& v : s) v = _mm512_dpbf16_ps(v, (__m512bh)x, (__m512bh)x);
    asm volatile("" : "+v"(x));
  }
  for (auto& v : s) asm volatile("" : : "v"(v));
}

__attribute__((target("avx512f,avx512vnni"))) void i8_chains(int64_t loops) {
  __m512i s[12], x = _mm512_set1_epi32(0x01010101);
  for (auto& v : s) v = _mm512_setzero_si512();
  for (int64_t i = 0; i < loops; ++i) {
#pragma GCC unroll 12
    for (auto& v : s) v = _mm512_dpbusd_epi32(v, x, x);
    asm volatile("" : "+v"(x));
  }
  for (auto& v : s) asm volatile("" : : "v"(v));
}

// Operations a second on all threads at once; 0 where the level lacks the instruction.
double peak(ft::thread_pool& pool, dtype type) {
  using ft::cpu::isa_level;
  const isa_level level = ft::cpu::active_level();
  const auto on_all = [&](void (*chain)(int64_t), double operations) {
    return pool.size() * chains([&](int64_t loops) { pool.run([&](int) { chain(loops); }); }, operations);
  };
  if (level < isa_level::avx512) return 0;
  if (type == dtype::f32 || type == dtype::f16) return on_all(f32_chains, 12 * 16 * 2);
  if (level < isa_level::avx512_bf16) return 0;
  return type == dtype::bf16 ? on_all(bf16_chains, 12 * 32 * 2) : on_all(i8_chains, 12 * 64 * 2);
}

#else

double peak(ft::thread_pool&, dtype) { return 0; }

#endif

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void read_wide(const char* p, size_t bytes) {
  __m512i sum[4] = {};
  for (size_t i = 0; i < bytes; i += 256)
    for (size_t j = 0; j < 4; ++j) sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(p + i + 64 * j));
  for (auto& v : sum) asm volatile("" : : "v"(v));
}
#endif

void read_plain(const char* p, size_t bytes) {
  uint64_t sum[4] = {}, value;
  for (size_t i = 0; i < bytes; i += 32)
    for (size_t j = 0; j < 4; ++j) std::memcpy(&value, p + i + 8 * j, 8), sum[j] ^= value;
  asm volatile("" : : "r"(sum[0] ^ sum[1] ^ sum[2] ^ sum[3]));
}

// Bytes a second that all threads read from memory together, each a quarter gigabyte of its own.
double read_rate(ft::thread_pool& pool) {
  auto read = read_plain;
#if defined(__x86_64__)
  if (ft::cpu::active_level() >= ft::cpu::isa_level::avx512) read = read_wide;
#endif
  constexpr size_t bytes = size_t{256} << 20;
  const ft::buffer data(ft::cpu::weight_memory(), bytes * static_cast<size_t>(pool.size()));
  std::memset(data.data(), 1, data.bytes());
  const double t = best_time(
      [&] { pool.run([&](int worker) { read(data.as<char>() + static_cast<size_t>(worker) * bytes, bytes); }); }, 1.0);
  return static_cast<double>(data.bytes()) / t;
}

// ---- the peer ----

using sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

sgemm open_blas(int threads) {
  const char* path = std::getenv("FT_OPENBLAS");
  void* library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) return nullptr;
  for (const char* prefix : {"scipy_", ""}) {
    const std::string p = prefix;
    auto f = reinterpret_cast<sgemm>(dlsym(library, (p + "cblas_sgemm").c_str()));
    auto set = reinterpret_cast<void (*)(int)>(dlsym(library, (p + "openblas_set_num_threads").c_str()));
    if (f && set) return set(threads), f;
  }
  return nullptr;
}

// ---- ours ----

struct bench {
  ft::thread_pool pool;
  const char* filter;
  sgemm peer;
  double read;
  std::vector<std::pair<dtype, double>> peaks;

  bench(int threads, const char* filter)
      : pool(threads), filter(filter), peer(open_blas(pool.size())), read(read_rate(pool)) {
    for (dtype type : {dtype::f32, dtype::f16, dtype::bf16, dtype::i8}) peaks.emplace_back(type, peak(pool, type));
  }

  double peak_of(dtype type) const {
    for (auto [t, value] : peaks)
      if (t == type) return value;
    return 0;
  }

  void run(dtype type, int64_t m, int64_t n, int64_t k, ft::activation_kind activation = ft::activation_kind::none) {
    char line[128];
    std::snprintf(line, sizeof line, "%-8s m %5ld n %6ld k %5ld %s", std::string(name(type)).c_str(), m, n, k,
                  activation == ft::activation_kind::gelu ? "gelu" : "    ");
    if (filter && !std::strstr(line, filter)) return;
    const size_t x_size = static_cast<size_t>(m * k), out_size = static_cast<size_t>(m * n);
    std::vector<float> x(x_size), w(static_cast<size_t>(n * k)), out(out_size), bias(static_cast<size_t>(n), 0.5f);
    std::mt19937 random(1);
    for (float& v : x) v = static_cast<float>(random() % 2001) / 1000 - 1;
    for (float& v : w) v = static_cast<float>(random() % 2001) / 1000 - 1;
    ft::backend& cpu = ft::cpu_backend();
    const ft::tensor part(w.data(), dtype::f32, {n, k});
    // Enough copies that none stays in a cache, so that decoding reads memory as it does in a model.
    const size_t copies = m <= 8 ? std::max<size_t>(1, (size_t{256} << 20) / (w.size() * bytes_of(type, 1))) : 1;
    std::vector<std::unique_ptr<ft::packed_weight>> weights;
    const double pack_start = seconds();
    for (size_t i = 0; i < copies; ++i) weights.push_back(cpu.pack(part, type));
    const double pack_time = (seconds() - pack_start) / static_cast<double>(copies);
    ft::arena scratch(ft::host_memory());
    ft::exec ex{cpu, cpu.ops(), scratch, &pool};
    ft::linear_args args;
    args.out = ft::tensor(out.data(), dtype::f32, {m, n});
    args.x = ft::tensor(x.data(), dtype::f32, {m, k});
    const auto packed_bias = cpu.pack_bias(bias, type, ft::host_memory());
    args.bias = packed_bias.get();
    args.activation = activation;
    const double t = best_time([&] {
                       for (auto& weight : weights) {
                         args.weight = weight.get();
                         cpu.ops().linear(ex, args);
                       }
                     }) /
                     static_cast<double>(copies);
    const double operations = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const double weight_bytes = static_cast<double>(weights[0]->bytes);
    std::printf("%s %9.3f ms %8.1f GFLOP/s", line, t * 1e3, operations / t * 1e-9);
    if (peak_of(type) > 0) std::printf(" %5.1f %% of peak", 100 * operations / t / peak_of(type));
    std::printf(" %6.1f GB/s %5.1f %% of memory", weight_bytes / t * 1e-9, 100 * weight_bytes / t / read);
    std::printf("  packed at %4.1f GB/s", static_cast<double>(w.size()) * 4 / pack_time * 1e-9);
    if (peer && type == dtype::f32) {
      const double theirs = best_time([&] {
        peer(101, 111, 112, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1, x.data(),
             static_cast<int>(k), w.data(), static_cast<int>(k), 0, out.data(), static_cast<int>(n));
      });
      std::printf("  OpenBLAS %8.1f GFLOP/s", operations / theirs * 1e-9);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  bench b(argc > 1 ? std::atoi(argv[1]) : 0, argc > 2 ? argv[2] : nullptr);
  std::printf("%s, %d threads; memory read %.1f GB/s\n", std::string(name(ft::cpu::active_level())).c_str(),
              b.pool.size(), b.read * 1e-9);
  for (auto [type, value] : b.peaks)
    if (value > 0) std::printf("peak %s %.1f GFLOP/s\n", std::string(name(type)).c_str(), value * 1e-9);
  for (dtype type : {dtype::f32, dtype::bf16, dtype::i8, dtype::f16}) {
    for (int64_t m : {4096, 1024})
      for (auto [n, k] : {std::pair<int64_t, int64_t>{1152, 384}, {384, 384}, {1536, 384}, {384, 1536}})
        b.run(type, m, n, k);
    b.run(type, 4096, 1536, 384, ft::activation_kind::gelu);
    for (auto [n, k] : {std::pair<int64_t, int64_t>{960, 576}, {576, 576}, {3072, 576}, {576, 1536}, {49152, 576}})
      b.run(type, 128, n, k);
    b.run(type, 512, 4096, 4096);
    b.run(type, 512, 4096, 14336);
    for (int64_t m : {1, 2, 4, 8, 16})
      for (auto [n, k] : {std::pair<int64_t, int64_t>{576, 576}, {3072, 576}, {576, 1536}, {49152, 576}, {4096, 4096}})
        b.run(type, m, n, k);
  }
}
