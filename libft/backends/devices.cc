#include "backends/devices.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <vector>

#include "backends/cpu/isa_level.h"
#include "backends/plugin.h"
#include "core/library_folder.h"
#include "core/status.h"

namespace ft {
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

uint64_t host_memory_bytes() {
  struct sysinfo memory{};
  sysinfo(&memory);
  return static_cast<uint64_t>(memory.totalram) * memory.mem_unit;
}

class device_list {
 public:
  device_list() {
    entries_.push_back(
        {{FT_DEVICE_CPU, 0}, "cpu", processor_name(), instruction_sets(), host_memory_bytes(), &cpu_backend()});
    find_gpus(folder_of(&devices) + "libft_cuda.so");
  }

  std::span<const device_entry> entries() const { return entries_; }
  const std::string& problem() const { return problem_; }

 private:
  void find_gpus(const std::string& path) {
    if (access(path.c_str(), F_OK) != 0) {
      problem_ = "this build has no CUDA plug-in";
      return;
    }
    try {
      const plugin& cuda = open_plugin(path.c_str());
      for (int i = 0; i < cuda.num_devices; ++i) {
        const plugin_device& d = cuda.devices[i];
        entries_.push_back(
            {{FT_DEVICE_CUDA, i}, cat("cuda:", i), d.description, d.capabilities, d.memory_bytes, d.device});
      }
      if (cuda.problem) problem_ = cuda.problem;
    } catch (const error& e) {
      problem_ = e.what();
    }
  }

  std::vector<device_entry> entries_;
  std::string problem_;
};

const device_list& found() {
  static const device_list list;
  return list;
}

}  // namespace

std::span<const device_entry> devices() { return found().entries(); }

const device_entry* find_device(const ft_device& id) {
  for (const device_entry& entry : devices())
    if (entry.id.device_type == id.device_type && entry.id.device_id == id.device_id) return &entry;
  return nullptr;
}

const device_entry& device_of(const backend& device) {
  for (const device_entry& entry : devices())
    if (entry.device == &device) return entry;
  fail(FT_ERROR_INTERNAL, device.name(), " is not among the devices");
}

const std::string& gpu_problem() { return found().problem(); }

const device_entry& device_named(const std::string& name) {
  const std::span<const device_entry> all = devices();
  if (name == "cpu") return all.front();
  if (name == "auto") return all.size() > 1 ? all[1] : all.front();
  size_t index = 0;
  bool known = name == "cuda";
  if (name.starts_with("cuda:")) {
    const char* end = name.data() + name.size();
    const auto [stopped, fault] = std::from_chars(name.data() + 5, end, index);
    known = fault == std::errc() && stopped == end;
  }
  if (!known) fail(FT_ERROR_INVALID_ARGUMENT, "device '", name, "' is unknown; use auto, cpu, cuda or cuda:N");
  if (all.size() == 1) fail(FT_ERROR_UNSUPPORTED, "device '", name, "': ", gpu_problem(), "; use 'cpu' or 'auto'");
  if (index + 1 >= all.size())
    fail(FT_ERROR_INVALID_ARGUMENT, "device '", name, "': there are ", all.size() - 1, " GPUs, cuda:0 the first");
  return all[index + 1];
}

}  // namespace ft
