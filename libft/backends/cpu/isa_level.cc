// Finds out which instruction sets the processor and the operating system have (CPUID leaves 1 and 7, XGETBV: AMD64
// Architecture Programmer's Manual, volume 3, appendix E; Intel SDM, volume 1, chapter 13).
#include "backends/cpu/isa_level.h"

#include <algorithm>
#include <cstdlib>

#include "built_levels.h"
#include "core/status.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ft::cpu {
namespace {

constexpr isa_level all_levels[] = {isa_level::reference, isa_level::portable, isa_level::avx2, isa_level::avx512,
                                    isa_level::avx512_bf16};

#define FT_LEVEL(level) , isa_level::level
constexpr isa_level built_levels[] = {isa_level::reference FT_FOR_EACH_BUILT_LEVEL(FT_LEVEL)};
#undef FT_LEVEL

#if defined(__x86_64__)

struct cpuid_registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
  cpuid_registers(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};

constexpr bool has(unsigned bits, std::initializer_list<int> wanted) {
  for (int bit : wanted)
    if (!(bits >> bit & 1)) return false;
  return true;
}

// Registers that the operating system saves when it switches threads.
unsigned saved_state() {
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

isa_level best_level() {
  const cpuid_registers basic(1, 0), extended(7, 0), more(7, 1);
  const bool avx = has(basic.c, {27, 28});  // OSXSAVE, AVX
  if (!avx || !has(saved_state(), {1, 2})) return isa_level::portable;
  if (!has(basic.c, {12, 29}) || !has(extended.b, {5})) return isa_level::portable;  // FMA, F16C; AVX2
  const bool zmm_saved = has(saved_state(), {5, 6, 7});
  if (!zmm_saved || !has(extended.b, {16, 17, 30, 31})) return isa_level::avx2;  // AVX-512 F, DQ, BW, VL
  if (!has(extended.c, {11}) || !has(more.a, {5})) return isa_level::avx512;     // VNNI; BF16
  return isa_level::avx512_bf16;
}

#else

isa_level best_level() { return isa_level::portable; }

#endif

std::string list_of_levels() {
  std::string list;
  for (isa_level level : available_levels()) (list += list.empty() ? "" : ", ") += name(level);
  return list;
}

isa_level chosen_level() {
  const char* wanted = std::getenv("FT_CPU_ISA");
  if (!wanted || !*wanted) return available_levels().back();
  for (isa_level level : available_levels())
    if (name(level) == wanted) return level;
  const bool known =
      std::any_of(std::begin(all_levels), std::end(all_levels), [&](isa_level l) { return name(l) == wanted; });
  if (known)
    fail(FT_ERROR_UNSUPPORTED, "FT_CPU_ISA asks for '", wanted,
         "', which this processor or this build lacks; there is ", list_of_levels());
  fail(FT_ERROR_INVALID_ARGUMENT, "FT_CPU_ISA is '", wanted, "', which is no instruction set; choose one of ",
       list_of_levels(), " or unset it");
}

}  // namespace

std::string_view name(isa_level level) {
  switch (level) {
    case isa_level::reference:
      return "reference";
    case isa_level::portable:
      return "portable";
    case isa_level::avx2:
      return "avx2";
    case isa_level::avx512:
      return "avx512";
    case isa_level::avx512_bf16:
      return "avx512_bf16";
  }
  return "unknown";
}

const std::vector<isa_level>& available_levels() {
  static const std::vector<isa_level> levels = [] {
    const isa_level best = best_level();
    std::vector<isa_level> list;
    for (isa_level level : built_levels)
      if (level <= best) list.push_back(level);
    return list;
  }();
  return levels;
}

isa_level active_level() {
  static const isa_level level = chosen_level();
  return level;
}

}  // namespace ft::cpu
