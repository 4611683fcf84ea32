// What libft and a backend it opens at run time (libft_cuda.so) agree on. The two are built from one source tree and
// share C++ types, so the handshake is exact: the plug-in refuses, and is refused by, any other build.
#pragma once

#include <ft/version.h>

#include <cstddef>
#include <cstdint>

#include "ops/exec.h"
#include "ops/op_table.h"

namespace ft {

// Changes whenever what the two share does.
struct plugin_layout {
  uint32_t version = FT_VERSION_MAJOR << 16 | FT_VERSION_MINOR << 8 | FT_VERSION_PATCH;
  uint32_t interface = 7;  // counts changes of the structs below and of ops/ that their sizes would not show
  uint32_t op_table_bytes = sizeof(op_table);
  uint32_t exec_bytes = sizeof(exec);
  uint32_t attention_bytes = sizeof(paged_attention_args);

  friend bool operator==(const plugin_layout&, const plugin_layout&) = default;
};

// What libft lends the plug-in.
struct plugin_host {
  plugin_layout layout;
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
  plugin_layout layout;
  int num_devices = 0;
  const plugin_device* devices = nullptr;
  const char* problem = nullptr;  // why there is no device; null where there are some
};

// The one symbol of a plug-in. Null when the layouts differ.
using plugin_entry = const plugin*(const plugin_host&);
inline constexpr const char* plugin_entry_name = "ft_open_plugin";

}  // namespace ft
