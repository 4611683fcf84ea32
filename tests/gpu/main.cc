// Runs the tests on the GPU: a line each with the time taken and how much of its error bound was used.
// `program [filter]` runs those whose names contain the filter, `program --bench [filter]` times kernels instead. Exit
// status 77 where there is no GPU.
#include <chrono>
#include <cstring>

#include "gpu/bench.h"
#include "gpu/compare.h"

int main(int argc, char** argv) {
  using namespace ft::test;
  if (!gpu_backend()) return 77;
  if (argc > 1 && !std::strcmp(argv[1], "--bench")) {
    try {
      run_benchmarks(argc > 2 ? argv[2] : nullptr);
      run_layer_benchmarks(argc > 2 ? argv[2] : nullptr);
    } catch (const std::exception& e) {
      std::printf("FAILED %s\n", e.what());
      return 1;
    }
    return 0;
  }
  std::printf("seed %llu (FT_TEST_SEED repeats it)\n", static_cast<unsigned long long>(run_seed()));
  int passed = 0, failed = 0;
  for (const auto& test : all_tests()) {
    if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
    const auto start = std::chrono::steady_clock::now();
    std::string fault;
    try {
      test.body();
    } catch (const std::exception& e) {
      fault = e.what();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++(fault.empty() ? passed : failed);
    std::printf("%-6s %-48s %6.2f s  %5.1f %% of the bound%s%s\n", fault.empty() ? "ok" : "FAILED", test.name, seconds,
                100 * take_worst_share(), fault.empty() ? "" : "\n       ", fault.c_str());
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
