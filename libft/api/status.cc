// ft/status.h and ft/version.h.
#include <cstdio>

#include "api/guard.h"

namespace ft::api {
namespace {

thread_local char last_error[2048];

}  // namespace

void set_last_error(const char* message) noexcept { std::snprintf(last_error, sizeof last_error, "%s", message); }

}  // namespace ft::api

#define FT_STRING_(x) #x
#define FT_STRING(x) FT_STRING_(x)

const char* ft_version(void) {
  return FT_STRING(FT_VERSION_MAJOR) "." FT_STRING(FT_VERSION_MINOR) "." FT_STRING(FT_VERSION_PATCH);
}

const char* ft_last_error(void) { return ft::api::last_error; }

const char* ft_status_name(ft_status status) {
  switch (status) {
    case FT_OK:
      return "FT_OK";
    case FT_ERROR_INVALID_ARGUMENT:
      return "FT_ERROR_INVALID_ARGUMENT";
    case FT_ERROR_OUT_OF_MEMORY:
      return "FT_ERROR_OUT_OF_MEMORY";
    case FT_ERROR_CHECKPOINT:
      return "FT_ERROR_CHECKPOINT";
    case FT_ERROR_UNSUPPORTED:
      return "FT_ERROR_UNSUPPORTED";
    case FT_ERROR_CANCELLED:
      return "FT_ERROR_CANCELLED";
    case FT_ERROR_PARALLEL:
      return "FT_ERROR_PARALLEL";
    case FT_ERROR_NOT_FOUND:
      return "FT_ERROR_NOT_FOUND";
    case FT_ERROR_FORKED:
      return "FT_ERROR_FORKED";
    case FT_ERROR_INTERNAL:
      return "FT_ERROR_INTERNAL";
  }
  return "unknown status";
}
