// ft/device.h.
#include "api/guard.h"
#include "backends/devices.h"
#include "core/thread_pool.h"

using namespace ft;
using namespace ft::api;

ft_status ft_device_count(size_t* out) {
  return guard([&] { require(out, "out") = devices().size(); });
}

ft_status ft_device_get(ft_device_info* out, size_t index) {
  return guard([&] {
    const auto all = devices();
    if (index >= all.size())
      fail(FT_ERROR_INVALID_ARGUMENT, "device index ", index, " is out of range; there ",
           all.size() == 1 ? "is 1 device" : cat("are ", all.size(), " devices"));
    const device_entry& d = all[index];
    write_struct(out,
                 {sizeof(ft_device_info), d.id, d.name.c_str(), d.description.c_str(), d.capabilities.c_str(),
                  d.memory_bytes, d.id.device_type == FT_DEVICE_CPU ? usable_cores() : 0},
                 "out");
  });
}

ft_status ft_device_problem(const char** out) {
  return guard([&] { require(out, "out") = gpu_problem().empty() ? nullptr : gpu_problem().c_str(); });
}
