// What every extern "C" function does alike: catch everything, keep the message, check arguments and struct sizes.
#pragma once

#include <ft/ft.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "core/status.h"

namespace ft::api {

// The calling thread's message. A fixed buffer, so that reporting that memory ran out needs none.
void set_last_error(const char* message) noexcept;

// Runs body and turns what it throws into a status and a message.
template <class Body>
ft_status guard(Body&& body) noexcept {
  try {
    body();
    return FT_OK;
  } catch (const error& e) {
    set_last_error(e.what());
    return e.code();
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return FT_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    set_last_error(e.what());
    return FT_ERROR_INTERNAL;
  } catch (...) {
    set_last_error("an unknown exception");
    return FT_ERROR_INTERNAL;
  }
}

template <class T>
T& require(T* pointer, const char* name) {
  if (!pointer) fail(FT_ERROR_INVALID_ARGUMENT, name, " is NULL");
  return *pointer;
}

// Reads an options struct that may be older (shorter) or newer (longer) than ours: what an older one lacks keeps its
// default; what a newer one adds must be zero, since it cannot be honoured.
template <class Options>
Options read_options(const Options* given, const Options& defaults, const char* name) {
  if (!given) return defaults;
  const size_t size = given->struct_size;
  if (size < sizeof(size_t) || size > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, name, ".struct_size is ", size, "; initialise the struct with its _INIT macro");
  const char* bytes = reinterpret_cast<const char*>(given);
  for (size_t i = sizeof(Options); i < size; ++i)
    if (bytes[i] != 0)
      fail(FT_ERROR_UNSUPPORTED, name, " sets a field that this version of libft (", ft_version(), ") does not know");
  Options options = defaults;
  std::memcpy(&options, given, std::min(size, sizeof(Options)));
  options.struct_size = sizeof(Options);
  return options;
}

// Fills as much of the caller's struct as it has room for.
template <class Struct>
void write_struct(Struct* out, const Struct& values, const char* name) {
  const size_t size = require(out, name).struct_size;
  if (size < sizeof(size_t) || size > 4096)
    fail(FT_ERROR_INVALID_ARGUMENT, name, "->struct_size is ", size, "; initialise the struct with its _INIT macro");
  std::memcpy(reinterpret_cast<char*>(out) + sizeof(size_t), reinterpret_cast<const char*>(&values) + sizeof(size_t),
              std::min(size, sizeof(Struct)) - sizeof(size_t));
}

}  // namespace ft::api
