// Config maps of the BERT line, from the config.json texts that the models are published with, and the modules that
// sentence-transformers keeps beside them.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "archs/model_fixture.h"
#include "check.h"

using namespace ft;
using test::checkpoint_builder;
using test::read_config;

namespace {

const std::string minilm = R"({"architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": 384,
  "intermediate_size": 1536, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
  "num_attention_heads": 12, "num_hidden_layers": 6, "pad_token_id": 0, "position_embedding_type": "absolute",
  "type_vocab_size": 2, "vocab_size": 30522})";

const std::string roberta_base = R"({"architectures": ["RobertaForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2,
  "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "roberta", "num_attention_heads": 12, "num_hidden_layers": 12,
  "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 50265})";

const std::string distilbert_sst2 = R"({"activation": "gelu", "architectures": ["DistilBertForSequenceClassification"],
  "dim": 768, "hidden_dim": 3072, "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
  "label2id": {"NEGATIVE": 0, "POSITIVE": 1}, "max_position_embeddings": 512, "model_type": "distilbert",
  "n_heads": 12, "n_layers": 6, "pad_token_id": 0, "sinusoidal_pos_embds": false, "tie_weights_": true,
  "vocab_size": 30522})";

}  // namespace

TEST(bert_config) {
  const arch::model_config c = read_config(minilm);
  CHECK_EQ(c.family, "bert");
  CHECK(c.head.kind == arch::head_kind::none && !c.causal && !c.head.has_pooler);
  CHECK_EQ(c.attention.head_dim, 32);
  CHECK_EQ(c.attention.num_kv_heads, 12);
  CHECK_EQ(c.positions.max, 512);
  CHECK_EQ(c.tokens.type_vocab_size, 2);
  CHECK_EQ(c.norm.epsilon, 1e-12f);
  CHECK(c.mlp.activation == activation_kind::gelu && c.norm.kind == norm_kind::layer);
  CHECK(c.tokens.stop_ids.empty());
  checkpoint_builder with_pooler(minilm);
  with_pooler.add("pooler.dense.weight", {384, 384});
  const auto source = with_pooler.open();
  CHECK(arch::family_of(*source).config(*source).head.has_pooler);
}

TEST(roberta_positions_start_after_the_padding_id) {
  const arch::model_config c = read_config(roberta_base);
  CHECK_EQ(c.positions.offset, 2);
  CHECK_EQ(c.positions.max, 512);
  CHECK(c.head.kind == arch::head_kind::masked_lm && c.embedding.tied);
}

TEST(distilbert_config) {
  const arch::model_config c = read_config(distilbert_sst2);
  CHECK(c.head.kind == arch::head_kind::sequence_classification);
  CHECK_EQ(c.hidden_size, 768);
  CHECK_EQ(c.mlp.intermediate_size, 3072);
  CHECK_EQ(c.tokens.type_vocab_size, 0);
  CHECK(c.head.label_names == std::vector<std::string>({"NEGATIVE", "POSITIVE"}));
  CHECK(c.head.classifier_activation == activation_kind::relu);
  const io::json_ptr json = c.to_json();
  CHECK_EQ(json->at("label_names").at(1), "POSITIVE");
}

TEST(faulty_bert_configs_are_named) {
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "relative_key",
              read_config(R"({"model_type": "bert", "position_embedding_type": "relative_key"})"));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "decoder", read_config(R"({"model_type": "bert", "is_decoder": true})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "no multiple",
              read_config(R"({"model_type": "bert", "hidden_size": 100, "num_attention_heads": 12})"));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "'quick_gelu'",
              read_config(R"({"model_type": "bert", "hidden_act": "quick_gelu"})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "leaves none",
              read_config(R"({"model_type": "roberta", "max_position_embeddings": 2, "pad_token_id": 1})"));
}

namespace {

// A folder that goes when the test ends.
class folder {
 public:
  folder() : path_(std::filesystem::temp_directory_path() / cat("ft_archs_", getpid())) {
    std::filesystem::create_directories(path_ / "1_Pooling");
    write("config.json", minilm);
    // No tensors: a header of an empty object.
    write("model.safetensors", std::string("\2\0\0\0\0\0\0\0{}", 10));
  }
  ~folder() { std::filesystem::remove_all(path_); }
  void write(const char* name, const std::string& text) const { std::ofstream(path_ / name, std::ios::binary) << text; }
  arch::model_config config() const {
    const auto source = io::checkpoint::open(path_.string());
    return arch::family_of(*source).config(*source);
  }

 private:
  std::filesystem::path path_;
};

std::string modules(const char* third) {
  return cat(R"([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Last", "type": "sentence_transformers.models.)",
             third, R"("}])");
}

}  // namespace

TEST(sentence_transformers_modules) {
  folder f;
  CHECK(f.config().pooling.kind == pool_kind::mean && !f.config().pooling.normalize);
  f.write("modules.json", modules("Normalize"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "1_Pooling/config.json", f.config());
  f.write("1_Pooling/config.json", R"({"word_embedding_dimension": 384, "pooling_mode_cls_token": true,
      "pooling_mode_mean_tokens": false})");
  CHECK(f.config().pooling.kind == pool_kind::first && f.config().pooling.normalize);
  f.write("1_Pooling/config.json", R"({"pooling_mode_lasttoken": true})");
  CHECK(f.config().pooling.kind == pool_kind::last);
  f.write("1_Pooling/config.json", R"({"pooling_mode": "max"})");
  CHECK(f.config().pooling.kind == pool_kind::max);
  f.write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true})");
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "several pooling modes", f.config());
  f.write("1_Pooling/config.json", R"({"pooling_mode_weightedmean_tokens": true})");
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "weightedmean", f.config());
  f.write("modules.json", modules("Dense"));
  f.write("1_Pooling/config.json", R"({"pooling_mode_mean_tokens": true})");
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "models.Dense", f.config());
}
