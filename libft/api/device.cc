// ft/device.h.
#include <sys/sysinfo.h>

#include <fstream>
#include <string>

#include "api/guard.h"
#include "backends/cpu/isa_level.h"
#include "core/thread_pool.h"

using namespace ft;
using namespace ft::api;

namespace {

// The processor's own name, as the kernel tells it.
std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != std::string::npos) return line.substr(colon + 2);
  return "unknown processor";
}

// The level in use, then the others from the best down.
std::string instruction_sets() {
  const cpu::isa_level active = cpu::active_level();
  std::string text(cpu::name(active));
  const auto& levels = cpu::available_levels();
  for (auto level = levels.rbegin(); level != levels.rend(); ++level)
    if (*level != active) text += " " + std::string(cpu::name(*level));
  return text;
}

}  // namespace

ft_status ft_device_count(size_t* out) {
  return guard([&] { require(out, "out") = 1; });
}

ft_status ft_device_get(ft_device_info* out, size_t index) {
  return guard([&] {
    if (index != 0) fail(FT_ERROR_INVALID_ARGUMENT, "device index ", index, " is out of range; there is 1 device");
    static const std::string description = processor_name();
    static const std::string capabilities = instruction_sets();
    struct sysinfo memory{};
    sysinfo(&memory);
    write_struct(out,
                 {sizeof(ft_device_info),
                  {FT_DEVICE_CPU, 0},
                  "cpu",
                  description.c_str(),
                  capabilities.c_str(),
                  static_cast<uint64_t>(memory.totalram) * memory.mem_unit,
                  usable_cores()},
                 "out");
  });
}
