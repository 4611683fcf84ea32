#include "backends/plugin.h"

#include <dlfcn.h>

#include <cstring>

#include "core/memory.h"
#include "core/status.h"

namespace ft {

const plugin& open_plugin(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(FT_ERROR_UNSUPPORTED, "the CUDA plug-in cannot be loaded: ", dlerror());
  const auto build = reinterpret_cast<plugin_build_id*>(dlsym(library, plugin_build_id_name));
  const auto open = reinterpret_cast<plugin_open*>(dlsym(library, plugin_open_name));
  const char* id = build ? build() : "an unknown one";
  if (!build || !open || std::strcmp(id, build_id()) != 0)
    fail(FT_ERROR_UNSUPPORTED, path, " is of another build than libft (", id, ", libft's is ", build_id(),
         "); install the two together");
  const plugin* opened = open({.count_allocation = count_allocation});
  if (!opened) fail(FT_ERROR_UNSUPPORTED, path, " could not look for devices");
  return *opened;
}

}  // namespace ft
