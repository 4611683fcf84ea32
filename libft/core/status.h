// The one exception type inside libft. Everything below api/ throws it; api/ turns it into an ft_status.
#pragma once

#include <ft/status.h>

#include <exception>
#include <sstream>
#include <string>
#include <utility>

namespace ft {

class error : public std::exception {
 public:
  error(ft_status code, std::string message) : code_(code), message_(std::move(message)) {}
  ft_status code() const noexcept { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  ft_status code_;
  std::string message_;
};

// Joins its arguments into one string: cat("row ", 3, " of ", n).
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  out.exceptions(std::ios::badbit);  // else a stream swallows std::bad_alloc and the text ends short
  (out << ... << args);
  return std::move(out).str();
}

template <class... Args>
[[noreturn]] void fail(ft_status code, const Args&... args) {
  throw error(code, cat(args...));
}

// A broken promise between libft's own parts: reported to the caller as FT_ERROR_INTERNAL, never an abort.
#define FT_CHECK(condition) \
  ((condition) ? void(0) : ::ft::fail(FT_ERROR_INTERNAL, __FILE__, ":", __LINE__, ": " #condition " does not hold"))

}  // namespace ft
