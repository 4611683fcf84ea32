// Any bytes as an INI file.
#include <nlohmann/json.hpp>

#include "fuzz.h"
#include "io/text/ini.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ft::fuzz::guarded([&] { ft::io::parse_ini({reinterpret_cast<const char*>(data), size}, "fuzz"); });
  return 0;
}
