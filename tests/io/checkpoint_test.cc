// Whole checkpoints: which files a source is taken to mean, and what is said when they do not fit together.
#include "io/checkpoint.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "bytes.h"
#include "folder.h"

namespace ft::io {
namespace {

namespace fs = std::filesystem;
using test::counting;
using test::folder;
using test::gguf_spec;
using test::safetensors;

// A safetensors file of bytes, one tensor a name.
std::string shard(const std::vector<std::string>& names) {
  std::string header;
  for (size_t i = 0; i < names.size(); ++i)
    header += cat(i ? "," : "{", "\"", names[i], R"(": {"dtype": "U8", "shape": [1], "data_offsets": [)", i, ",", i + 1,
                  "]}");
  return safetensors(header + "}", counting(names.size()));
}

std::string index(const std::string& weight_map) { return R"({"metadata": {}, "weight_map": )" + weight_map + "}"; }

// Opens the folder, which must fail with a message that begins with its path and contains `text`.
void check_refused(const folder& f, const std::string& text, ft_status status = FT_ERROR_CHECKPOINT) {
  CHECK_ERROR(status, text, checkpoint::open(f.path()));
  CHECK_ERROR(status, f.path(), checkpoint::open(f.path()));
}

TEST(checkpoint_of_one_file) {
  folder f;
  f.write("config.json", R"({"model_type": "llama"})").write("model.safetensors", shard({"x", "y"}));
  for (const std::string& source : {f.path(), f.path() + "/"}) {
    const auto c = checkpoint::open(source);
    CHECK(c->format() == checkpoint_format::hugging_face);
    CHECK_EQ(c->source(), source);
    CHECK_EQ(c->config().string("model_type"), "llama");
    CHECK_EQ(c->config().file(), f.path("config.json"));
    CHECK_EQ(c->tensors().size(), 2u);
    CHECK_EQ(*c->find("y")->data.as<char>(), 2);
    CHECK(!c->find("z"));
    CHECK_EQ(c->find("x")->file->path(), f.path("model.safetensors"));
  }
}

TEST(checkpoint_of_shards_by_index) {
  folder f;
  f.write("config.json", "{}")
      .write("model.safetensors.index.json", index(R"({"a": "m-1.safetensors", "b": "m-2.safetensors"})"))
      .write("m-1.safetensors", shard({"a"}))
      .write("m-2.safetensors", shard({"b", "extra"}))
      .write("other.safetensors", "not read: the index does not name it");
  const auto c = checkpoint::open(f.path());
  CHECK_EQ(c->tensors().size(), 3u);
  CHECK_EQ(c->find("a")->file->path(), f.path("m-1.safetensors"));
  CHECK_EQ(c->find("extra")->file->path(), f.path("m-2.safetensors"));
}

TEST(checkpoint_single_file_comes_before_the_index) {
  folder f;
  f.write("config.json", "{}").write("model.safetensors", shard({"a"})).write("model.safetensors.index.json", "broken");
  CHECK_EQ(checkpoint::open(f.path())->tensors().size(), 1u);
}

TEST(checkpoint_of_shards_without_index) {
  folder f;
  f.write("config.json", "{}").write("2.safetensors", shard({"b"})).write("1.safetensors", shard({"c", "a"}));
  const auto c = checkpoint::open(f.path());
  CHECK_EQ(c->tensors().size(), 3u);
  CHECK_EQ(c->tensors()[0].name, "c");
  CHECK_EQ(c->tensors()[2].name, "b");
}

TEST(checkpoint_files_may_be_links) {
  folder blobs, f;
  blobs.write("0123", shard({"a"}));
  f.write("config.json", "{}");
  fs::create_symlink(blobs.path("0123"), f.path("model.safetensors"));
  CHECK(checkpoint::open(f.path())->find("a"));
}

TEST(checkpoint_of_gguf) {
  folder f;
  gguf_spec spec;
  spec.pairs = {gguf_spec::pair("general.architecture", 8, gguf_spec::string("llama"))};
  spec.tensors = {gguf_spec::tensor("t", {4}, 0, 0)};
  spec.data = counting(16);
  f.write("model.gguf", spec.bytes()).write("renamed", spec.bytes());
  for (const char* name : {"model.gguf", "renamed"}) {
    const auto c = checkpoint::open(f.path(name));
    CHECK(c->format() == checkpoint_format::gguf);
    CHECK_EQ(c->metadata().string("general.architecture", ""), "llama");
    CHECK_EQ(c->find("t")->data.size(), 4);
    CHECK(!c->read_json("config.json"));
    CHECK_ERROR(FT_ERROR_INTERNAL, "config", c->config());
  }
  spec.tensors.push_back(gguf_spec::tensor("t", {4}, 0, 32));
  spec.data = counting(48);
  f.write("twice.gguf", spec.bytes()).write("short.gguf", "GG");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "twice.gguf: tensor 't': is there twice", checkpoint::open(f.path("twice.gguf")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "short.gguf: is no GGUF file", checkpoint::open(f.path("short.gguf")));
}

TEST(checkpoint_outlives_its_opener) {
  folder f;
  f.write("config.json", "{}").write("model.safetensors", shard({"x"}));
  stored_tensor kept = *checkpoint::open(f.path())->find("x");
  CHECK_EQ(*kept.data.as<char>(), 1);  // the tensor keeps the file mapped
}

TEST(checkpoint_sources_that_are_none) {
  folder f;
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "A Hugging Face folder (config.json and *.safetensors) or a .gguf file is expected",
              checkpoint::open(f.path("absent")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "cannot be opened: ", checkpoint::open(""));
  check_refused(f, "is a folder without config.json. A Hugging Face folder holds config.json and model.safetensors");
  f.write("tiny.gguf", "GGUF");
  check_refused(f, "It holds tiny.gguf: give that file's path");
  f.write("config.json", "{}");
  check_refused(
      f, "no weights: looked for model.safetensors, model.safetensors.index.json, *.safetensors, pytorch_model.bin");
  f.write("tf_model.h5", "x");
  check_refused(f, "It holds tf_model.h5, which libft does not read: save it again as safetensors");
  f.write("pytorch_model.bin", "x");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "pytorch_model.bin: is no file of torch.save", checkpoint::open(f.path()));
  f.write("model.safetensors", shard({"a"})).write("notes.txt", "hello").write("empty", "");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "give the path of the folder that holds this file",
              checkpoint::open(f.path("model.safetensors")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "give the path of the folder that holds this file",
              checkpoint::open(f.path("config.json")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "is no GGUF file", checkpoint::open(f.path("notes.txt")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "is no GGUF file", checkpoint::open(f.path("empty")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "is no regular file", checkpoint::open("/dev/null"));
}

TEST(checkpoint_links_in_a_circle) {
  folder f;
  fs::create_symlink(f.path("b"), f.path("a"));
  fs::create_symlink(f.path("a"), f.path("b"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "cannot be opened: ", checkpoint::open(f.path("a")));
}

TEST(checkpoint_pipes_are_refused_not_waited_for) {
  folder f;
  f.write("config.json", "{}");
  CHECK(::mkfifo(f.path("model.safetensors").c_str(), 0600) == 0);
  check_refused(f, "model.safetensors: is no regular file");
}

TEST(checkpoint_broken_configs) {
  folder f;
  f.write("model.safetensors", shard({"a"}));
  f.write("config.json", "");
  check_refused(f, "config.json: invalid JSON at byte 0");
  f.write("config.json", "[1]");
  check_refused(f, "config.json: is no JSON object");
  f.write("config.json", "{\"a\": 1, \"a\": 2}");
  check_refused(f, "config.json: invalid JSON at byte 12: the key 'a' appears twice");
}

struct broken_index {
  const char* name;
  std::string text;
  const char* message;
};

TEST(checkpoint_broken_indices) {
  folder outside;
  outside.write("secret.safetensors", shard({"a"}));
  const std::string up = "../" + fs::path(outside.path()).filename().string() + "/secret.safetensors";
  const broken_index cases[] = {
      {"no JSON", "{", "index.json: invalid JSON"},
      {"a list", "[]", "index.json: a JSON object was expected, not array"},
      {"no map", "{}", "has no object 'weight_map'"},
      {"a list for a map", index("[]"), "has no object 'weight_map'"},
      {"an empty map", index("{}"), "'weight_map' is empty"},
      {"no string", index(R"({"a": 1})"), "tensor 'a': its file is no string"},
      {"a folder up", index("{\"a\": \"" + up + "\"}"), "is no name of a file in the same folder"},
      {"an absolute path", index("{\"a\": \"" + outside.path("secret.safetensors") + "\"}"), "is no name of a file"},
      {"a folder", index(R"({"a": ".."})"), "tensor 'a': '..' is no name of a file"},
      {"a zero byte", index(R"({"a": "m.safetensors\u0000.x"})"), "'m.safetensors\\x00.x' is no name of a file"},
      {"an empty name", index(R"({"a": ""})"), "tensor 'a': '' is no name of a file"},
      {"an absent shard", index(R"({"a": "absent.safetensors"})"), "absent.safetensors: cannot be opened"},
      {"a tensor that is not there", index(R"({"a": "m.safetensors", "z": "m.safetensors"})"),
       "m.safetensors: tensor 'z': is missing, though the index says that it is here"},
      {"a tensor in another shard", index(R"({"a": "m.safetensors", "b": "m.safetensors", "c": "n.safetensors"})"),
       "m.safetensors: tensor 'b': is missing"},
      {"a tensor in two shards", index(R"({"a": "m.safetensors", "c": "o.safetensors"})"),
       "o.safetensors: tensor 'a': is in "},
      {"a tensor twice in the index", index(R"({"a": "m.safetensors", "a": "m.safetensors"})"),
       "the key 'a' appears twice"},
      {"a shard that is none", index(R"({"a": "config.json"})"), "config.json: is no safetensors file"},
  };
  for (const broken_index& c : cases) {
    folder f;
    f.write("config.json", "{}")
        .write("m.safetensors", shard({"a"}))
        .write("n.safetensors", shard({"b", "c"}))
        .write("o.safetensors", shard({"a", "c"}))
        .write("model.safetensors.index.json", c.text);
    CHECK_ERROR(FT_ERROR_CHECKPOINT, c.message, checkpoint::open(f.path()));
  }
}

TEST(checkpoint_reads_other_json_files) {
  folder f;
  f.write("config.json", "{}").write("model.safetensors", shard({"x"})).write("1_Pooling/config.json", R"({"p": 1})");
  f.write("broken.json", "{");
  const auto c = checkpoint::open(f.path());
  CHECK_EQ(json_reader(*c->read_json("1_Pooling/config.json"), "f").integer("p"), 1);
  CHECK(!c->read_json("2_Dense/config.json"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, f.path("broken.json"), c->read_json("broken.json"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "is no regular file", c->read_json("1_Pooling"));
  for (const char* path : {"../x.json", "a/../../x.json", "/etc/hostname", "", "a/.."})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "leaves the folder", c->read_json(path));
}

TEST(checkpoint_keeps_foreign_tensors_apart) {
  const std::string fp8 = R"({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]})";
  folder f;
  f.write("config.json", "{}")
      .write("m.safetensors", test::safetensors("{\"odd\": " + fp8 + "}", counting(4)))
      .write("n.safetensors", shard({"a"}))
      .write("model.safetensors.index.json", index(R"({"odd": "m.safetensors", "a": "n.safetensors"})"));
  const auto c = checkpoint::open(f.path());
  CHECK_EQ(c->tensors().size(), 1u);
  CHECK_EQ(c->foreign_tensors().size(), 1u);
  CHECK(c->find("a") && !c->find("odd") && c->find_foreign("odd") && !c->find_foreign("a"));
  CHECK(c->holds("a") && c->holds("odd") && !c->holds("b"));
  f.write("m.safetensors", test::safetensors("{\"odd\": " + fp8 + ", \"a\": " +
                                                 R"({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [4, 8]}})",
                                             counting(8)));
  check_refused(f, "tensor 'a': is in ");
}

TEST(checkpoint_from_parts) {
  test::file_in_memory file(shard({"x"}));
  auto tensors = std::vector<stored_tensor>{{"x", tensor(nullptr, dtype::f32, {}), *file}};
  const auto c = checkpoint::from_parts("memory", parse_json(R"({"a": 1})", "memory"), tensors);
  CHECK_EQ(c->config().integer("a"), 1);
  CHECK(c->find("x") && !c->read_json("generation_config.json"));
}

}  // namespace
}  // namespace ft::io
