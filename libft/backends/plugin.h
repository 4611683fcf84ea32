// What libft and a backend it opens at run time (libft_cuda.so) agree on. The two are built from one source tree and
// share C++ types, so libft opens a plug-in of its own build only. Each knows its build by an identifier that
// cmake/build_id.cmake makes of the sources they share and of the compiler: nobody has to count changes.
#pragma once

#include <cstdint>

#include "ops/exec.h"
#include "ops/op_table.h"

namespace ft {

// Of the library that this is compiled into.
const char* build_id();

// What libft lends the plug-in.
struct plugin_host {
  void (*count_allocation)() = nullptr;  // core/memory.h's, of which the plug-in has a copy of its own
};

struct plugin_device {
  const char* description = nullptr;  // the GPU's own name
  const char* capabilities = nullptr;
  uint64_t memory_bytes = 0;
  backend* device = nullptr;
};

// What the plug-in offers; lives as long as the process.
struct plugin {
  int num_devices = 0;
  const plugin_device* devices = nullptr;
  const char* problem = nullptr;  // why there is no device; null where there are some
};

// The two symbols of a plug-in. The first is asked first, and stays as it is for ever; the second is called in a
// plug-in of the same build alone, and may change with anything else here.
using plugin_build_id = const char*();
inline constexpr const char* plugin_build_id_name = "ft_plugin_build_id";
using plugin_open = const plugin*(const plugin_host&);
inline constexpr const char* plugin_open_name = "ft_plugin_open";

// Opens the plug-in at `path`, for as long as the process lives. Throws ft::error (FT_ERROR_UNSUPPORTED), naming both
// builds where it is of another one.
const plugin& open_plugin(const char* path);

}  // namespace ft
