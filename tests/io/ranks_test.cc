// Checkpoints that were saved by ranks: FasterTransformer's folders of headerless files, and Megatron's of torch files.
#include <nlohmann/json.hpp>
#include <string>

#include "archive.h"
#include "folder.h"
#include "io/checkpoint.h"

namespace ft::io {
namespace {

using namespace test;
namespace p = test::pickle;

const std::string gpt_ini = "[gpt]\nhead_num = 2\nweight_data_type = fp32\n";

TEST(faster_transformer_files_are_flat_tensors) {
  folder f;
  f.write("config.ini", gpt_ini)
      .write("model.wte.bin", counting(24))
      .write("model.layers.0.attention.dense.weight.0.bin", counting(8))
      .write("model.layers.0.attention.dense.weight.1.bin", counting(8))
      .write("model.layers.0.attention.dense.weight.int8.0.bin", counting(3))
      .write("args.txt", "not a tensor");
  const auto c = checkpoint::open(f.path());
  CHECK(c->format() == checkpoint_format::faster_transformer);
  CHECK_EQ(c->config().object("gpt")->integer("head_num"), 2);
  CHECK_EQ(c->tensors().size(), 4u);
  CHECK_EQ(c->tensor_parallel(), 2);
  const stored_tensor& wte = *c->find("model.wte");
  CHECK(wte.data.rank == 1 && wte.data.dim(0) == 6 && wte.data.type == dtype::f32);
  CHECK_EQ(wte.file->path(), f.path("model.wte.bin"));
  CHECK(c->find("model.layers.0.attention.dense.weight.int8.0")->data.type == dtype::i8);
}

TEST(faster_transformer_element_types) {
  for (const auto& [name, type] : {std::pair{"fp32", dtype::f32}, {"fp16", dtype::f16}, {"bf16", dtype::bf16}}) {
    folder f;
    f.write("config.ini", cat("[encoder]\nweight_data_type = ", name, "\n[structure]\n")).write("x.bin", counting(8));
    CHECK(checkpoint::open(f.path())->tensors()[0].data.type == type);
  }
  folder f;
  f.write("config.ini", "[gpt]\n").write("x.bin", counting(8));
  CHECK(checkpoint::open(f.path())->tensors()[0].data.type == dtype::f32);  // FasterTransformer's default
}

TEST(faster_transformer_faults) {
  folder f;
  f.write("config.ini", gpt_ini);
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "has a config.ini but no tensors", checkpoint::open(f.path()));
  f.write("model.wte.bin", counting(7));
  CHECK_ERROR(FT_ERROR_CHECKPOINT,
              "model.wte.bin: tensor 'model.wte': has 7 bytes, which is no whole number of float32",
              checkpoint::open(f.path()));
  f.write("model.wte.bin", counting(8)).write("x.99999.bin", counting(4));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "x.99999.bin: rank 99999 is beyond", checkpoint::open(f.path()));
  f.write("config.ini", "[gpt]\nweight_data_type = fp8\n");
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "weight_data_type 'fp8' is not supported", checkpoint::open(f.path()));
  f.write("config.ini", "[encoder]\nweight_data_type = fp32\n[decoder]\nweight_data_type = fp16\n");
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "have different weight_data_type", checkpoint::open(f.path()));
  f.write("config.ini", "[gpt]\nweight_data_type = 3\n");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'weight_data_type' must be a string", checkpoint::open(f.path()));
}

TEST(faster_transformer_folder_in_a_folder_is_hinted_at) {
  folder f;
  f.write("2-gpu/config.ini", gpt_ini);
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "It holds 2-gpu: give that folder's path", checkpoint::open(f.path()));
}

// A rank's file: one layer norm and one split matrix a layer, filled with `mark`; embeddings on the first stage.
std::string rank_file(int layers, char mark, bool first, const std::string& more = "") {
  const auto tensor = [](int64_t storage) {
    return p::tensor(p::storage("ByteStorage", std::to_string(storage), 4), 0, {2, 2}, {2, 1});
  };
  std::string encoder;
  for (int i = 0; i < layers; ++i)
    encoder += p::text(cat("layers.", i, ".input_layernorm.weight")) + tensor(0) +
               p::text(cat("layers.", i, ".mlp.dense_h_to_4h.weight")) + tensor(0);
  std::string language_model = p::text("encoder") + p::dictionary(encoder);
  if (first)
    language_model +=
        p::text("embedding") + p::dictionary(p::text("word_embeddings") + p::dictionary(p::text("weight") + tensor(0)));
  const std::string model = p::dictionary(p::text("language_model") + p::dictionary(language_model));
  return torch_archive(p::dictionary(p::text("checkpoint_version") + "K\3" + p::text("model") + model +
                                     p::text("optimizer") + p::dictionary(p::text("step") + tensor(0)) + more),
                       {std::string(4, mark)})
      .bytes();
}

TEST(megatron_ranks_and_stages) {
  folder f;
  f.write("latest_checkpointed_iteration.txt", "300\n");
  const std::string at = "iter_0000300/mp_rank_0";
  for (int tensor = 0; tensor < 2; ++tensor)
    for (int stage = 0; stage < 2; ++stage)
      f.write(cat(at, tensor, "_00", stage, "/model_optim_rng.pt"),
              rank_file(2 - stage, static_cast<char>('a' + 2 * tensor + stage), stage == 0));
  for (const std::string& source : {f.path(), f.path("iter_0000300")}) {
    const auto c = checkpoint::open(source);
    CHECK(c->format() == checkpoint_format::megatron);
    CHECK(is_megatron(c->format()));
    CHECK_EQ(c->tensor_parallel(), 2);
    CHECK_EQ(c->config().integer("checkpoint_version"), 3);
    // Three layers, each with one norm and two pieces of a matrix; two pieces of the embedding.
    CHECK_EQ(c->tensors().size(), 3u * 3 + 2);
    CHECK_EQ(*c->find("language_model.encoder.layers.0.mlp.dense_h_to_4h.weight.1")->data.as<char>(), 'c');
    CHECK_EQ(*c->find("language_model.encoder.layers.2.mlp.dense_h_to_4h.weight.0")->data.as<char>(), 'b');
    CHECK_EQ(*c->find("language_model.encoder.layers.2.mlp.dense_h_to_4h.weight.1")->data.as<char>(), 'd');
    CHECK_EQ(*c->find("language_model.encoder.layers.2.input_layernorm.weight")->data.as<char>(), 'b');
    CHECK_EQ(*c->find("language_model.embedding.word_embeddings.weight.1")->data.as<char>(), 'c');
  }
  std::filesystem::remove_all(f.path("iter_0000300/mp_rank_01_000"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "tensor rank 1 of pipeline stage 0 is missing, of 2 ranks and 2 stages",
              checkpoint::open(f.path()));
  f.write("iter_0000300/mp_rank_01_000/notes", "");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "mp_rank_01_000: holds no model_optim_rng.pt", checkpoint::open(f.path()));
}

TEST(megatron_names_of_folders) {
  for (const char* name : {"mp_rank_00", "mp_rank_00_000", "tp_rank_00_pp_rank_000", "."}) {
    folder f;
    f.write(cat(name, "/model_optim_rng.pt"), rank_file(1, 'a', true));
    const auto c = checkpoint::open(f.path());
    CHECK(c->format() == checkpoint_format::megatron);
    CHECK_EQ(c->tensors().size(), 3u);
  }
  folder f;
  f.write("latest_checkpointed_iteration.txt", "release")
      .write("release/mp_rank_00/model_rng.pt", rank_file(1, 'a', true));
  CHECK_EQ(checkpoint::open(f.path())->tensors().size(), 3u);
}

TEST(megatron_faults) {
  folder f;
  for (const char* text : {"", "latest", "-3", "12x", "../../etc"}) {
    f.write("latest_checkpointed_iteration.txt", text);
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "latest_checkpointed_iteration.txt: names no iteration",
                checkpoint::open(f.path()));
  }
  f.write("latest_checkpointed_iteration.txt", "7");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "iter_0000007: holds no rank (mp_rank_00/model_optim_rng.pt)",
              checkpoint::open(f.path()));
  const auto saved_with = [](const char* key, int ranks) {
    return rank_file(1, 'a', true,
                     p::text("args") + p::global("argparse", "Namespace") + ")\x81" +
                         p::dictionary(p::text(key) + p::integer(ranks)) + "b");
  };
  f.write("mp_rank_00/model_optim_rng.pt", saved_with("tensor_model_parallel_size", 2));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "was saved with tensor_model_parallel_size = 2, but the folder holds 1",
              checkpoint::open(f.path()));
  f.write("mp_rank_00/model_optim_rng.pt", saved_with("pipeline_model_parallel_size", 4));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "was saved with pipeline_model_parallel_size = 4", checkpoint::open(f.path()));
  f.write("mp_rank_00/model_optim_rng.pt", torch_archive("}", {}).bytes());
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "holds no weights under 'model'", checkpoint::open(f.path()));
  f.write("mp_rank_00_000/model_optim_rng.pt", rank_file(1, 'a', true));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "has tensor rank 0 of stage 0 twice", checkpoint::open(f.path()));
}

TEST(hugging_face_folders_of_torch_files) {
  const auto weights = [](const char* name) {
    return torch_archive(p::dictionary(p::text(name) + p::tensor(p::storage("ByteStorage", "0", 4), 0, {4}, {1})),
                         {counting(4)})
        .bytes();
  };
  folder f;
  f.write("config.json", "{}").write("pytorch_model.bin", weights("a"));
  CHECK(checkpoint::open(f.path())->find("a"));
  CHECK(checkpoint::open(f.path())->format() == checkpoint_format::hugging_face);
  f.write("model.safetensors", safetensors("{}", ""));  // comes first
  CHECK(!checkpoint::open(f.path())->find("a"));
  folder shards;
  shards.write("config.json", "{}")
      .write("pytorch_model.bin.index.json", R"({"weight_map": {"a": "1.bin", "b": "2.bin"}})")
      .write("1.bin", weights("a"))
      .write("2.bin", weights("b"));
  CHECK(checkpoint::open(shards.path())->find("b"));
  shards.write("2.bin", weights("c"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "2.bin: tensor 'b': is missing, though the index says",
              checkpoint::open(shards.path()));
}

}  // namespace
}  // namespace ft::io
