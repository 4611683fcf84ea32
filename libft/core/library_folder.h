// Where this code was loaded from: libft and its plug-in each look for companions beside themselves.
#pragma once

#include <dlfcn.h>

#include <string>

namespace ft {

// The folder, with a slash, of the library that `code`, a function of the caller's, is in; empty if that cannot be
// told.
template <class Function>
std::string folder_of(Function* code) {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<const void*>(code), &info) || !info.dli_fname) return "";
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

}  // namespace ft
