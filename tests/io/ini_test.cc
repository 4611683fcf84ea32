// INI files: what configparser writes is read with types, and everything else refused by line.
#include "io/text/ini.h"

#include <nlohmann/json.hpp>
#include <string>

#include "bytes.h"

namespace ft::io {
namespace {

TEST(ini_values_by_their_look) {
  const json_ptr root = parse_ini(
      "# written by hand\r\n[gpt]\r\nHead_Num = 16\nlayernorm_eps=1e-05\nhas_adapters : False\n\n  \n"
      "; more\nstart_id = None\npath = a=b:c\nempty =\n[structure]\nt5_with_bias = true\nn = -3\nhuge = 1e999",
      "config.ini");
  const json_reader reader(*root, "config.ini");
  const json_reader gpt = *reader.object("gpt");
  CHECK_EQ(gpt.integer("head_num"), 16);
  CHECK_EQ(gpt.number("layernorm_eps"), 1e-5);
  CHECK_EQ(gpt.boolean("has_adapters", true), false);
  CHECK(!gpt.has("start_id"));
  CHECK_EQ(gpt.string("path"), "a=b:c");
  CHECK_EQ(gpt.string("empty"), "");
  CHECK_EQ(reader.object("structure")->boolean("t5_with_bias", false), true);
  CHECK_EQ(reader.object("structure")->integer("n"), -3);
  CHECK_EQ(reader.object("structure")->string("huge"), "1e999");
  CHECK(parse_ini("", "config.ini")->empty());
}

TEST(ini_faults_name_the_line) {
  const std::pair<std::string, const char*> cases[] = {
      {"a = 1", "line 1 stands before the first section header"},
      {"[a]\nhello", "line 2 is neither a section header nor 'key = value': hello"},
      {"[a]\n= 1", "line 2 has no key before its '='"},
      {"[a]\nx = 1\n\nX : 2", "line 4 gives the key 'x' a second time"},
      {"[a]\n[b]\n[a]", "line 3 opens the section [a] a second time"},
      {"[a", "line 1 is no section header: [a"},
      {"[]", "line 1 is no section header"},
      {"[a]\nx = 1\n  2", "line 3 begins with a blank"},
      {std::string("[a]\nx = \0", 9), "line 2 is no UTF-8 text"},
      {"[a]\nx = \xff", "line 2 is no UTF-8 text"},
      {"[a]\nx = " + std::string(70'000, 'y'), "line 2 has 70004 bytes"},
  };
  for (const auto& [text, message] : cases)
    CHECK_ERROR(FT_ERROR_CHECKPOINT, cat("config.ini: ", message), parse_ini(text, "config.ini"));
}

}  // namespace
}  // namespace ft::io
