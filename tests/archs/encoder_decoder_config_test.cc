// Config maps of the T5 and BART lines, from the config.json texts that the models are published with (shortened to the
// keys that matter to inference), and their weight tables' sources.
#include <cmath>

#include "archs/config_texts.h"

using namespace ft;
using arch::block_kind;
using arch::head_kind;
using test::checkpoint_builder;
using test::find;
using test::has;
using test::read_config;
using test::table_of;
using test::with;

namespace {

const std::string t5_small = R"({"architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64,
  "d_model": 512, "decoder_start_token_id": 0, "eos_token_id": 1, "layer_norm_epsilon": 1e-06, "model_type": "t5",
  "num_heads": 8, "num_layers": 6, "pad_token_id": 0, "relative_attention_num_buckets": 32, "vocab_size": 32128})";

const std::string flan_t5_small = R"({"architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64,
  "d_model": 512, "decoder_start_token_id": 0, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
  "model_type": "t5", "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "pad_token_id": 0,
  "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "tie_word_embeddings": false,
  "vocab_size": 32128})";

const std::string bart_large_cnn = R"({"activation_function": "gelu", "architectures":
  ["BartForConditionalGeneration"], "bos_token_id": 0, "d_model": 1024, "decoder_attention_heads": 16,
  "decoder_ffn_dim": 4096, "decoder_layers": 12, "decoder_start_token_id": 2, "encoder_attention_heads": 16,
  "encoder_ffn_dim": 4096, "encoder_layers": 12, "eos_token_id": 2, "forced_bos_token_id": 0,
  "forced_eos_token_id": 2, "max_position_embeddings": 1024, "model_type": "bart", "pad_token_id": 1,
  "scale_embedding": false, "vocab_size": 50264})";

const std::string mbart_50 = R"({"activation_function": "relu", "architectures": ["MBartForConditionalGeneration"],
  "bos_token_id": 0, "d_model": 1024, "decoder_attention_heads": 16, "decoder_ffn_dim": 4096, "decoder_layers": 12,
  "decoder_start_token_id": 2, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "encoder_layers": 12,
  "eos_token_id": 2, "forced_eos_token_id": 2, "max_position_embeddings": 1024, "model_type": "mbart",
  "pad_token_id": 1, "scale_embedding": true, "vocab_size": 250054})";

const std::string opus_en_de = R"({"activation_function": "swish", "architectures": ["MarianMTModel"],
  "bos_token_id": 0, "d_model": 512, "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layers": 6,
  "decoder_start_token_id": 58100, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": 6,
  "eos_token_id": 0, "forced_eos_token_id": 0, "max_position_embeddings": 512, "model_type": "marian",
  "pad_token_id": 58100, "scale_embedding": true, "static_position_embeddings": true, "vocab_size": 58101})";

}  // namespace

TEST(t5_config) {
  const arch::model_config c = read_config(t5_small);
  CHECK(c.family == "t5" && c.is_encoder_decoder && c.causal && c.head.kind == head_kind::causal_lm);
  CHECK(c.num_layers == 6 && c.encoder.num_layers == 6 && c.attention.num_heads == 8 &&
        c.encoder.attention.num_heads == 8);
  CHECK(c.hidden_size == 512 && c.attention.head_dim == 64 && c.mlp.intermediate_size == 2048 &&
        c.tokens.encoder_vocab_size == 32128);
  CHECK(c.norm.kind == norm_kind::rms && c.mlp.activation == activation_kind::relu && !c.mlp.gated());
  CHECK(c.positions.relative_buckets == 32 && c.positions.relative_max_distance == 128 && c.attention.scale == 1);
  CHECK(c.embedding.tied && std::fabs(c.head.input_scale * std::sqrt(512.0f) - 1) < 1e-6f);
  CHECK(c.tokens.decoder_start_id == 0 && c.tokens.pad_id == 0 && c.tokens.stop_ids == std::vector<int32_t>({1}));
  CHECK(c.tokens.forced_eos_ids.empty() && c.tokens.forced_bos_id == -1);
  CHECK(!c.attention.bias && !c.mlp.bias && !c.positions.learned && !c.positions.sinusoidal);
  // What a file leaves out equals the class's defaults.
  CHECK_EQ(read_config(R"({"model_type": "t5"})").num_layers, 6);
  const arch::model_config mt5 = read_config(R"({"model_type": "mt5"})");
  CHECK(mt5.num_layers == 8 && mt5.attention.num_heads == 6 && mt5.tokens.vocab_size == 250112 && mt5.mlp.gated());
}

TEST(gated_t5_config) {
  const arch::model_config c = read_config(flan_t5_small);
  CHECK(c.mlp.gated() && c.mlp.activation == activation_kind::gelu_tanh && c.head.input_scale == 1);
  CHECK(c.attention.num_heads == 6 && c.attention.head_dim == 64 &&
        c.hidden_size == 512);  // heads do not share out d_model
  const arch::weight_table table = table_of(flan_t5_small);
  CHECK(find(table, "decoder.layers.7.attention.query.weight").shape == std::vector<int64_t>({384, 512}));
  CHECK(find(table, "encoder.layers.0.feed_forward.gate.weight").sources[0].pieces[0].ends_with("wi_0.weight"));
  CHECK(find(table, "encoder.layers.0.feed_forward.up.weight").sources[0].pieces[0].ends_with("wi_1.weight"));
  CHECK(!has(table_of(t5_small), "encoder.layers.0.feed_forward.gate.weight"));
  CHECK(read_config(with(flan_t5_small, "feed_forward_proj", "\"gated-silu\"")).mlp.activation ==
        activation_kind::silu);
  CHECK_EQ(read_config(with(flan_t5_small, "num_decoder_layers", "3")).num_layers, 3);
  CHECK_EQ(read_config(with(flan_t5_small, "scale_decoder_outputs", "true")).head.input_scale,
           read_config(t5_small).head.input_scale);
}

TEST(t5_counts_an_output_of_its_own_where_the_file_holds_one) {
  const std::string tiny = R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 64,
    "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4})";
  checkpoint_builder weights(tiny);
  weights.add_all();
  CHECK(arch::config_of(*weights.open()).embedding.tied);
  weights.add("lm_head.weight", {64, 32});
  const auto source = weights.open();
  const arch::model_config c = arch::config_of(*source);
  CHECK(!c.embedding.tied);
  CHECK(find(arch::weights_of(c, *source), "output.weight").shape == std::vector<int64_t>({64, 32}));
}

TEST(t5_encoder_alone) {
  const std::string config = with(t5_small, "architectures", R"(["T5EncoderModel"])");
  const arch::model_config c = read_config(config);
  CHECK(!c.is_encoder_decoder && !c.causal && c.head.kind == head_kind::none && c.encoder.num_layers == 6);
  CHECK(has(table_of(config), "encoder.norm.weight") && !has(table_of(config), "decoder.norm.weight"));
  CHECK(find(table_of(config), "encoder.relative_bias.weight").shape == std::vector<int64_t>({32, 8}));
}

TEST(faulty_t5_configs_are_named) {
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "T5ForTokenClassification",
              read_config(with(t5_small, "architectures", R"(["T5ForTokenClassification"])")));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "feed_forward_proj",
              read_config(with(t5_small, "feed_forward_proj", "\"gated-maxout\"")));
  for (const char* buckets : {"0", "2", "30", "-4", "256"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "relative_attention_num_buckets",
                read_config(with(t5_small, "relative_attention_num_buckets", buckets)));
  for (const char* distance : {"16", "0", "100000"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "relative_attention_max_distance",
                read_config(with(t5_small, "relative_attention_max_distance", distance)));
  for (const char* key : {"d_model", "d_kv", "d_ff", "num_heads", "vocab_size"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, cat(key, " is 0"), read_config(with(t5_small, key, "0")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "num_layers is -1", read_config(with(t5_small, "num_layers", "-1")));
}

TEST(bart_config) {
  const arch::model_config c = read_config(bart_large_cnn);
  CHECK(c.family == "bart" && c.is_encoder_decoder && c.head.kind == head_kind::causal_lm && c.embedding.tied);
  CHECK(c.num_layers == 12 && c.encoder.num_layers == 12 && c.attention.head_dim == 64 && c.embedding.shared);
  CHECK(c.block == block_kind::post_norm && c.embedding_norm && !c.final_norm && c.embedding.scale == 1);
  CHECK(c.positions.learned && c.positions.offset == 2 && c.positions.max == 1024);
  CHECK(c.norm.kind == norm_kind::layer && c.mlp.activation == activation_kind::gelu);
  CHECK(c.tokens.decoder_start_id == 2 && c.tokens.forced_bos_id == 0);
  CHECK(c.tokens.forced_eos_ids == std::vector<int32_t>({2}) && c.tokens.pad_id == 1);
  const arch::weight_table table = table_of(bart_large_cnn);
  CHECK(find(table, "encoder.positions.weight").shape == std::vector<int64_t>({1026, 1024}));
  CHECK(!has(table, "output.weight") && !has(table, "encoder.embedding.weight") && !has(table, "decoder.norm.weight"));
  const arch::weight_spec& bias = find(table, "output.bias");
  CHECK(!bias.required && bias.shape == std::vector<int64_t>({50264}));
  CHECK(bias.stored_shape(bias.sources[0]) == std::vector<int64_t>({1, 50264}));
  const std::string untied = with(bart_large_cnn, "tie_word_embeddings", "false");
  CHECK(has(table_of(untied), "output.weight"));
  CHECK(read_config(with(bart_large_cnn, "architectures", R"(["BartModel"])")).head.kind == head_kind::none);
}

TEST(mbart_config) {
  const arch::model_config c = read_config(mbart_50);
  CHECK(c.block == block_kind::pre_norm && c.final_norm && c.embedding_norm && c.embedding.scale == 32);
  CHECK(c.tokens.forced_eos_ids == std::vector<int32_t>({2}) && c.mlp.activation == activation_kind::relu);
  CHECK(has(table_of(mbart_50), "decoder.norm.weight") && has(table_of(mbart_50), "encoder.norm.weight"));
}

TEST(marian_config) {
  const arch::model_config c = read_config(opus_en_de);
  CHECK(c.positions.sinusoidal && !c.positions.learned && c.positions.offset == 0 && !c.embedding_norm);
  CHECK(c.block == block_kind::post_norm && c.mlp.activation == activation_kind::silu);
  CHECK(c.tokens.decoder_start_id == 58100 && c.tokens.forced_eos_ids == std::vector<int32_t>({0}));
  CHECK(!has(table_of(opus_en_de), "encoder.positions.weight"));
  const std::string two =
      with(with(opus_en_de, "share_encoder_decoder_embeddings", "false"), "decoder_vocab_size", "32000");
  const arch::model_config both = read_config(two);
  CHECK(both.tokens.encoder_vocab_size == 58101 && both.tokens.vocab_size == 32000 && !both.embedding.shared);
  CHECK(find(table_of(two), "encoder.embedding.weight").shape == std::vector<int64_t>({58101, 512}));
  CHECK(find(table_of(two), "embedding.weight").shape == std::vector<int64_t>({32000, 512}));
}

TEST(faulty_bart_configs_are_named) {
  for (const std::string& config : {bart_large_cnn, mbart_50, opus_en_de}) {
    CHECK_ERROR(FT_ERROR_UNSUPPORTED, "XForQuestionAnswering",
                read_config(with(config, "architectures", R"(["XForQuestionAnswering"])")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "7 attention heads cannot share",
                read_config(with(config, "encoder_attention_heads", "7")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "7 attention heads cannot share",
                read_config(with(config, "decoder_attention_heads", "7")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "decoder_layers is -1", read_config(with(config, "decoder_layers", "-1")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "encoder_ffn_dim is 0", read_config(with(config, "encoder_ffn_dim", "0")));
    CHECK_ERROR(FT_ERROR_UNSUPPORTED, "'quick_gelu' is not supported",
                read_config(with(config, "activation_function", "\"quick_gelu\"")));
  }
}

// The configuration reads and the table fits together: a checkpoint of what it asks for is complete.
TEST(encoder_decoders_ask_for_what_they_can_load) {
  const std::pair<const char*, const char*> small[] = {
      {"d_model", "64"},
      {"d_kv", "16"},
      {"d_ff", "48"},
      {"num_layers", "1"},
      {"num_heads", "2"},
      {"num_decoder_layers", "2"},
      {"encoder_layers", "1"},
      {"decoder_layers", "2"},
      {"encoder_attention_heads", "2"},
      {"encoder_ffn_dim", "48"},
      {"decoder_ffn_dim", "48"},
      {"decoder_attention_heads", "2"},
      {"vocab_size", "96"},
      {"decoder_start_token_id", "3"},
      {"max_position_embeddings", "32"},
  };
  for (std::string config : {t5_small, flan_t5_small, bart_large_cnn, mbart_50, opus_en_de}) {
    for (const auto& [key, value] : small) config = with(config, key, value);
    checkpoint_builder weights(config);
    weights.add_all();
    const auto source = weights.open();
    const arch::weight_table table = arch::weights_of(arch::config_of(*source), *source);
    const arch::weight_match match = arch::match(table, *source);
    arch::require_complete(match, *source);
    CHECK(match.unused.empty());
    weights.remove(match.entries[5].source->pieces[0]);
    const auto short_of_one = weights.open();
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "1 tensor does not fit",
                arch::require_complete(arch::match(table, *short_of_one), *short_of_one));
  }
}
