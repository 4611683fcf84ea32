// A small test harness: TEST(name) { CHECK(...); }. Each test program links tests/main.cc; `program [filter]` runs the
// tests whose names contain the filter.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "core/status.h"

namespace ft::test {

struct test_case {
  const char* name;
  void (*body)();
};

inline std::vector<test_case>& all_tests() {
  static std::vector<test_case> tests;
  return tests;
}

struct failure : std::exception {
  explicit failure(std::string m) : message(std::move(m)) {}
  const char* what() const noexcept override { return message.c_str(); }
  std::string message;
};

struct registrar {
  registrar(const char* name, void (*body)()) { all_tests().push_back({name, body}); }
};

// Runs f, which must throw ft::error with this code and a message that contains `text`.
template <class F>
void expect_error(ft_status code, const std::string& text, F&& f, const char* where) {
  try {
    f();
  } catch (const error& e) {
    if (e.code() != code) throw failure(cat(where, ": status ", ft_status_name(e.code()), ": ", e.what()));
    if (std::string(e.what()).find(text) == std::string::npos)
      throw failure(cat(where, ": message lacks '", text, "': ", e.what()));
    return;
  }
  throw failure(cat(where, ": no error was thrown"));
}

}  // namespace ft::test

#define FT_STRINGIFY_(x) #x
#define FT_STRINGIFY(x) FT_STRINGIFY_(x)
#define FT_WHERE __FILE__ ":" FT_STRINGIFY(__LINE__)

#define TEST(name)                                                   \
  static void test_##name();                                         \
  static ::ft::test::registrar registrar_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition) ((condition) ? void(0) : throw ::ft::test::failure(FT_WHERE ": " #condition " does not hold"))
// As CHECK, with values to print.
#define CHECK_MSG(condition, ...) \
  ((condition) ? void(0) : throw ::ft::test::failure(::ft::cat(FT_WHERE ": " #condition ": ", __VA_ARGS__)))
#define CHECK_EQ(a, b) CHECK_MSG((a) == (b), (a), " != ", (b))
#define CHECK_ERROR(code, text, ...) ::ft::test::expect_error(code, text, [&] { __VA_ARGS__; }, FT_WHERE)
