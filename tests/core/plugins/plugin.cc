// A plug-in without devices, of the build that the definition names (tests/core/plugin_test.cc).
#include "backends/plugin.h"

#include <cstdlib>

#define EXPORTED extern "C" __attribute__((visibility("default")))

#ifdef PLUGIN_OF_same_BUILD
EXPORTED const char* ft_plugin_build_id() { return ft::build_id(); }
EXPORTED const ft::plugin* ft_plugin_open(const ft::plugin_host& host) {
  static const ft::plugin none{.problem = "a plug-in of the same build"};
  if (host.count_allocation) host.count_allocation();
  return &none;
}
#elif defined(PLUGIN_OF_other_BUILD)
EXPORTED const char* ft_plugin_build_id() { return "0123456789abcdef"; }
EXPORTED const ft::plugin* ft_plugin_open(const ft::plugin_host&) { std::abort(); }  // must not be called
#endif
