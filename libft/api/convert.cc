// ft/convert.h.
#include "arch/convert.h"

#include "api/guard.h"

using namespace ft;
using namespace ft::api;

namespace {

arch::convert_options to_options(const ft_convert_options& given) {
  arch::convert_options options;
  if (given.dtype) options.dtype = given.dtype;
  if (given.tensor_parallel) options.tensor_parallel = given.tensor_parallel;
  if (given.pipeline_parallel) options.pipeline_parallel = given.pipeline_parallel;
  options.overwrite = given.overwrite != 0;
  if (given.num_files < 0) fail(FT_ERROR_INVALID_ARGUMENT, "num_files is ", given.num_files);
  for (int32_t i = 0; i < given.num_files; ++i) {
    const char* name = (&require(given.file_names, "file_names"))[i];
    const char* contents = (&require(given.file_contents, "file_contents"))[i];
    options.files.push_back({&require(name, "file_names[i]"), &require(contents, "file_contents[i]")});
  }
  if (given.progress)
    options.on_progress = [callback = given.progress, data = given.user_data](uint64_t done, uint64_t total) {
      if (callback(done, total, data) != 0) fail(FT_ERROR_CANCELLED, "the progress callback cancelled converting");
    };
  return options;
}

}  // namespace

ft_status ft_convert(const char* source, const char* destination, const ft_convert_options* options) {
  return guard([&] {
    require(source, "source");
    require(destination, "destination");
    const ft_convert_options defaults = FT_CONVERT_OPTIONS_INIT;
    arch::convert(source, destination, to_options(read_options(options, defaults, "options")));
  });
}
