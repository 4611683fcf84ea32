// A plug-in is opened when it is of the same build, and no function of another's but the one that names it is called.
#include "backends/plugin.h"

#include <string>

#include "check.h"
#include "core/memory.h"

using namespace ft;

TEST(plugin_of_the_same_build) {
  const uint64_t before = allocation_count();
  const plugin& opened = open_plugin(PLUGIN_same);
  CHECK_EQ(std::string(opened.problem), "a plug-in of the same build");
  CHECK_EQ(opened.num_devices, 0);
  CHECK_EQ(allocation_count(), before + 1);
}

TEST(plugin_of_another_build) {
  CHECK_EQ(std::string(build_id()).size(), 16u);
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "(0123456789abcdef, libft's is " + std::string(build_id()) + ")",
              open_plugin(PLUGIN_other));
}

TEST(library_that_is_no_plugin) {
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "is of another build than libft (an unknown one", open_plugin(PLUGIN_none));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "cannot be loaded", open_plugin("/nowhere/libft_cuda.so"));
}
