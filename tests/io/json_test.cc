// JSON: what is refused, where it says so, and how configurations are read.
#include "io/text/json.h"

#include <nlohmann/json.hpp>
#include <string>

#include "check.h"

namespace ft::io {
namespace {

TEST(json_values_of_every_type) {
  json_ptr root =
      parse_json(R"( {"a": [1, -2, 2.5, true, false, null, "x\u00e9", {}, []], "b": 18446744073709551615} )", "f");
  const json& a = (*root)["a"];
  CHECK_EQ(a.size(), 9u);
  CHECK_EQ(a[0].get<int>(), 1);
  CHECK_EQ(a[1].get<int>(), -2);
  CHECK_EQ(a[2].get<double>(), 2.5);
  CHECK(a[3].get<bool>() && !a[4].get<bool>() && a[5].is_null());
  CHECK_EQ(a[6].get<std::string>(), "x\xc3\xa9");
  CHECK(a[7].is_object() && a[7].empty() && a[8].is_array() && a[8].empty());
  CHECK_EQ((*root)["b"].get<uint64_t>(), UINT64_MAX);
}

TEST(json_scalars_may_stand_alone) {
  CHECK_EQ(parse_json("3", "f")->get<int>(), 3);
  CHECK(parse_json("null", "f")->is_null());
}

struct bad_text {
  const char* name;
  std::string text;
  const char* message;
};

TEST(json_faults_name_file_and_byte) {
  const bad_text cases[] = {
      {"empty", "", "c.json: invalid JSON at byte 0: "},
      {"cut", "{\"a\": [1, 2", "at byte 11: "},
      {"second value", "{} {}", "at byte 4: "},
      {"trailing comma", "[1,]", "at byte 4: "},
      {"comment", "[1 // one\n]", "at byte 4: "},
      {"NaN", "[NaN]", "invalid literal"},
      {"Infinity", "{\"a\": Infinity}", "invalid literal"},
      {"minus Infinity", "[-Infinity]", "at byte 3: "},
      {"too large a number", "[1e999]", "number overflow"},
      {"single quotes", "{'a': 1}", "at byte 2: "},
      {"control character", "[\"a\nb\"]", "control character"},
      {"overlong UTF-8", "[\"\xc0\xaf\"]", "ill-formed UTF-8"},
      {"cut UTF-8", "[\"\xe2\x82\"]", "ill-formed UTF-8"},
      {"stray UTF-8", "{\"\x80\": 1}", "ill-formed UTF-8"},
      {"lone surrogate", "[\"\\ud800\"]", "surrogate"},
      {"zero byte", std::string("[1\0]", 4), "at byte 3: "},
      {"twice", "{\"a\": 1, \"b\": {\"a\": 2}, \"a\": 3}", "at byte 27: the key 'a' appears twice"},
      {"twice, deep", "[{\"k\": {\"x\": 1, \"x\": 1}}]", "the key 'x' appears twice"},
  };
  for (const bad_text& c : cases) {
    try {
      parse_json(c.text, "c.json");
    } catch (const error& e) {
      CHECK_EQ(e.code(), FT_ERROR_CHECKPOINT);
      CHECK_MSG(std::string(e.what()).find(c.message) != std::string::npos, c.name, ": ", e.what());
      CHECK_MSG(std::string(e.what()).find("c.json: invalid JSON at byte ") == 0, c.name, ": ", e.what());
      continue;
    }
    CHECK_MSG(false, c.name, " was accepted");
  }
}

std::string nested(size_t depth, const char* open, const char* inside, const char* close) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open;
  text += inside;
  for (size_t i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(json_depth_is_limited) {
  CHECK(parse_json(nested(64, "[", "", "]"), "f")->is_array());
  CHECK(parse_json(nested(64, "{\"a\":", "1", "}"), "f")->is_object());
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "at byte 65: nested deeper than 64", parse_json(nested(65, "[", "", "]"), "f"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "nested deeper than 64", parse_json(nested(65, "{\"a\":", "1", "}"), "f"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "nested deeper than 64", parse_json(std::string(10'000'000, '['), "f"));
}

TEST(json_messages_stay_short_and_printable) {
  try {
    parse_json("{\"" + std::string(1000, '\x01') + "\": 1", "f");
  } catch (const error& e) {
    const std::string message = e.what();
    CHECK(message.size() < 1000);
    for (char c : message) CHECK(c >= 0x20 && c < 0x7f);
    return;
  }
  CHECK(false);
}

TEST(json_reader_reads_with_defaults) {
  json_ptr root = parse_json(
      R"({"n": 7, "x": 0.5, "t": true, "s": "word", "none": null, "big": 9223372036854775807, "o": {"f": 2}})",
      "c.json");
  json_reader r(*root, "c.json");
  CHECK_EQ(r.integer("n"), 7);
  CHECK_EQ(r.integer("big"), INT64_MAX);
  CHECK_EQ(r.integer("none", 3), 3);
  CHECK_EQ(r.integer("absent", 4), 4);
  CHECK_EQ(r.number("x"), 0.5);
  CHECK_EQ(r.number("n", 1.0), 7.0);
  CHECK_EQ(r.number("absent", 1.5), 1.5);
  CHECK(r.boolean("t", false) && r.boolean("absent", true));
  CHECK_EQ(r.string("s"), "word");
  CHECK_EQ(r.string("none", "other"), "other");
  CHECK(r.has("n") && !r.has("none") && !r.has("absent"));
  CHECK(!r.find("none") && r.find("s")->is_string());
  CHECK(!r.object("none") && !r.object("absent"));
  CHECK_EQ(r.object("o")->integer("f"), 2);
}

TEST(json_reader_errors_name_file_and_key) {
  json_ptr root = parse_json(
      R"({"s": "word", "x": 1.5, "huge": 9223372036854775808, "list": [1], "o": {"f": "two", "in": {"x": 1}}})",
      "c.json");
  json_reader r(*root, "c.json");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "c.json: the key 'absent' is missing", r.integer("absent"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "c.json: the key 'absent' is missing", r.number("absent"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "c.json: the key 'absent' is missing", r.string("absent"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "c.json: 's' must be an integer, not string \"word\"", r.integer("s"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'x' must be an integer, not number 1.5", r.integer("x", 0));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'huge' must be an integer below 2^63", r.integer("huge"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'s' must be a number", r.number("s", 0.0));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'x' must be true or false", r.boolean("x", false));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'list' must be a string, not array", r.string("list", ""));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'list' must be an object, not array", r.object("list"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'o.f' must be an integer", r.object("o")->integer("f"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "the key 'o.in.y' is missing", r.object("o")->object("in")->integer("y"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "d.json: a JSON object was expected, not array",
              json_reader(*r.find("list"), "d.json"));
}

}  // namespace
}  // namespace ft::io
