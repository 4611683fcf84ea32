// Config maps of GPT-2 and what came after it, from the config.json texts that the models are published with (shortened
// to the keys that matter to inference), and their weight tables' sources.
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

const std::string gpt2_xl = R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
  "bos_token_id": 50256, "eos_token_id": 50256, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
  "n_embd": 1600, "n_head": 25, "n_layer": 48, "n_positions": 1024, "vocab_size": 50257})";

const std::string gptj_6b = R"({"activation_function": "gelu_new", "architectures": ["GPTJForCausalLM"],
  "bos_token_id": 50256, "eos_token_id": 50256, "layer_norm_epsilon": 1e-05, "model_type": "gptj", "n_embd": 4096,
  "n_head": 16, "n_inner": null, "n_layer": 28, "n_positions": 2048, "rotary": true, "rotary_dim": 64,
  "scale_attn_weights": true, "tie_word_embeddings": false, "vocab_size": 50400})";

const std::string neox_20b = R"({"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
  "hidden_act": "gelu_fast", "hidden_size": 6144, "intermediate_size": 24576, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 64, "num_hidden_layers": 44,
  "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "vocab_size": 50432})";

const std::string opt_350m = R"({"activation_function": "relu", "architectures": ["OPTForCausalLM"], "bos_token_id": 2,
  "do_layer_norm_before": false, "eos_token_id": 2, "ffn_dim": 4096, "hidden_size": 1024,
  "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 16, "num_hidden_layers": 24,
  "pad_token_id": 1, "vocab_size": 50272, "word_embed_proj_dim": 512})";

const std::string bloom_560m = R"({"apply_residual_connection_post_layernorm": false,
  "architectures": ["BloomForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "layer_norm_epsilon": 1e-05,
  "model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "offset_alibi": 100,
  "pad_token_id": 3, "pretraining_tp": 1, "seq_length": 2048, "slow_but_exact": false, "vocab_size": 250880})";

}  // namespace

TEST(gpt2_config) {
  const arch::model_config c = read_config(gpt2_xl);
  CHECK(c.family == "gpt2" && c.architecture == "GPT2LMHeadModel");
  CHECK(c.head.kind == head_kind::causal_lm && c.causal && c.embedding.tied);
  CHECK(c.num_layers == 48 && c.attention.num_heads == 25 && c.attention.num_kv_heads == 25 &&
        c.attention.head_dim == 64);
  CHECK(c.mlp.intermediate_size == 6400 && c.positions.max == 1024 && c.tokens.vocab_size == 50257);
  CHECK(c.norm.kind == norm_kind::layer && c.mlp.activation == activation_kind::gelu_tanh);
  CHECK(c.positions.learned && c.positions.offset == 0 && c.positions.rotary.empty() &&
        c.positions.alibi_slopes.empty());
  CHECK(c.block == block_kind::pre_norm && !c.mlp.gated() && c.final_norm && !c.embedding_norm);
  CHECK_EQ(c.attention.scale, 0.125f);
  CHECK_EQ(c.layers[7].attention_scale, 1.0f);
  CHECK(c.tokens.stop_ids == std::vector<int32_t>({50256}));
  CHECK_EQ(read_config(with(gpt2_xl, "scale_attn_by_inverse_layer_idx", "true")).layers[7].attention_scale, 0.125f);
  CHECK_EQ(read_config(with(gpt2_xl, "scale_attn_weights", "false")).attention.scale, 1.0f);
  CHECK_EQ(read_config(with(gpt2_xl, "n_inner", "100")).mlp.intermediate_size, 100);
  CHECK_EQ(read_config(R"({"model_type": "gpt2"})").hidden_size, 768);  // what is left out equals the class's defaults
  CHECK_EQ(read_config(R"({"model_type": "gpt2", "hidden_size": 96})").hidden_size, 96);
}

TEST(gptj_config) {
  const arch::model_config c = read_config(gptj_6b);
  CHECK(c.block == block_kind::parallel && c.shared_norm && !c.embedding.tied && c.attention.head_dim == 256);
  CHECK(!c.attention.bias && !c.attention.output_bias && c.mlp.bias && c.mlp.intermediate_size == 16384);
  CHECK(c.positions.rotary_dim() == 64 && c.positions.rotary[0].style == rotary_style::interleaved &&
        !c.positions.learned);
  CHECK(has(table_of(gptj_6b), "output.bias") && !has(table_of(gptj_6b), "layers.0.feed_forward_norm.weight"));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "rotary_dim null", read_config(with(gptj_6b, "rotary_dim", "null")));
  for (const char* bad : {"63", "0", "258"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "", read_config(with(gptj_6b, "rotary_dim", bad)));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "cannot turn 258 elements of heads of 256",
              read_config(with(gptj_6b, "rotary_dim", "258")));
}

TEST(gpt_neox_config) {
  const arch::model_config c = read_config(neox_20b);
  CHECK(c.block == block_kind::parallel && !c.shared_norm && c.attention.head_dim == 96);
  CHECK(c.positions.rotary_dim() == 24 && c.positions.rotary[0].style == rotary_style::half);
  CHECK(c.attention.bias && c.attention.output_bias && c.mlp.bias);
  CHECK(read_config(with(neox_20b, "use_parallel_residual", "false")).block == block_kind::pre_norm);
  CHECK(!read_config(with(neox_20b, "attention_bias", "false")).attention.bias);
  CHECK_EQ(read_config(with(neox_20b, "rotary_emb_base", "5000")).positions.rotary[0].theta, 5000.0);
  const arch::model_config newer =
      read_config(with(neox_20b, "rope_parameters", R"({"rope_theta": 77, "partial_rotary_factor": 0.5})"));
  CHECK(newer.positions.rotary_dim() == 48 && newer.positions.rotary[0].theta == 77);
  for (const char* bad : {"0", "1.5", "-1", "0.01"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "rotary positions cannot turn", read_config(with(neox_20b, "rotary_pct", bad)));
  CHECK_EQ(find(table_of(neox_20b), "output.weight").sources.size(), 2u);
}

TEST(opt_config) {
  const arch::model_config c = read_config(opt_350m);
  CHECK(c.block == block_kind::post_norm && !c.final_norm && c.embedding.tied && c.norm.weights);
  CHECK(c.embedding.size == 512 && c.output_size() == 512 && c.hidden_size == 1024 && c.projects_embedding());
  CHECK(c.positions.learned && c.positions.offset == 2 && c.mlp.activation == activation_kind::relu);
  const arch::weight_table table = table_of(opt_350m);
  CHECK(find(table, "positions.weight").shape == std::vector<int64_t>({2050, 1024}));
  CHECK(find(table, "embedding.weight").shape == std::vector<int64_t>({50272, 512}));
  CHECK(find(table, "output_projection.weight").shape == std::vector<int64_t>({512, 1024}));
  CHECK(!has(table, "norm.weight") && !has(table, "output.weight"));
  const std::string usual = with(with(opt_350m, "do_layer_norm_before", "true"), "word_embed_proj_dim", "1024");
  CHECK(read_config(usual).block == block_kind::pre_norm && !read_config(usual).projects_embedding());
  CHECK(has(table_of(usual), "norm.weight") && !has(table_of(usual), "output_projection.weight"));
  CHECK(!read_config(with(usual, "_remove_final_layer_norm", "true")).final_norm);
  CHECK(!has(table_of(with(usual, "enable_bias", "false")), "layers.0.feed_forward.up.bias"));
  CHECK(!has(table_of(with(usual, "layer_norm_elementwise_affine", "false")), "layers.0.attention_norm.weight"));
}

TEST(bloom_config) {
  const arch::model_config c = read_config(bloom_560m);
  CHECK(c.hidden_size == 1024 && c.attention.num_heads == 16 && c.mlp.intermediate_size == 4096 &&
        c.positions.max == 2048);
  CHECK(c.embedding_norm && c.embedding.tied && !c.positions.learned && c.positions.rotary.empty());
  // The paper's: a geometric sequence that begins at 2^(-8/n) with that same ratio.
  for (int i = 0; i < 16; ++i)
    CHECK(std::fabs(c.positions.alibi_slopes[static_cast<size_t>(i)] / std::exp2(-0.5 * (i + 1)) - 1) < 1e-6);
  const arch::model_config odd = read_config(with(with(bloom_560m, "num_attention_heads", "6"), "n_embed", "96"));
  const double six[] = {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125};
  for (size_t i = 0; i < 6; ++i) CHECK(std::fabs(odd.positions.alibi_slopes[i] / six[i] - 1) < 1e-6);
  CHECK(read_config(with(bloom_560m, "apply_residual_connection_post_layernorm", "true")).block ==
        block_kind::normed_residual);
}

TEST(fused_weights_say_how_they_lie) {
  const auto layout_of = [](const std::string& config, const char* name) {
    const arch::weight_table table = table_of(config);
    return find(table, name).sources[0].layout;
  };
  const arch::weight_layout gpt2 = layout_of(gpt2_xl, "layers.3.attention.value.weight");
  CHECK(gpt2.transposed && gpt2.groups == 1 && gpt2.parts == 3 && gpt2.part == 2);
  CHECK(layout_of(gpt2_xl, "layers.3.feed_forward.up.weight").transposed);
  CHECK(!layout_of(gpt2_xl, "positions.weight").transposed);
  const arch::weight_layout neox = layout_of(neox_20b, "layers.3.attention.key.bias");
  CHECK(!neox.transposed && neox.groups == 64 && neox.parts == 3 && neox.part == 1);
  const arch::weight_table table = table_of(bloom_560m);
  const arch::weight_spec& key = find(table, "layers.0.attention.key.weight");
  CHECK(key.shape == std::vector<int64_t>({1024, 1024}));
  CHECK(key.stored_shape(key.sources[0]) == std::vector<int64_t>({3072, 1024}));
  CHECK_EQ(key.sources[1].pieces[0], "h.0.self_attention.query_key_value.weight");
}

TEST(a_missing_fused_tensor_is_told_once) {
  checkpoint_builder model(R"({"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 64,
    "n_positions": 16})");
  model.add_all();
  model.remove("transformer.h.1.attn.c_attn.weight");
  const auto source = model.open();
  const arch::family& family = arch::family_of(*source);
  const arch::weight_table table = family.weights(family.config(*source), source->format());
  CHECK_ERROR(FT_ERROR_CHECKPOINT,
              "1 tensor does not fit the configuration:\n  transformer.h.1.attn.c_attn.weight [32, 96] is missing "
              "(also looked for: h.1.attn.c_attn.weight)",
              arch::require_complete(arch::match(table, *source), *source));
}

TEST(faulty_gpt_configs_are_named) {
  for (const std::string& config : {gpt2_xl, gptj_6b, neox_20b, opt_350m, bloom_560m}) {
    const std::string type = read_config(config).model_type;
    const bool aliases = type == "gpt2" || type == "gptj";
    CHECK_ERROR(FT_ERROR_UNSUPPORTED, "ForSequenceClassification",
                read_config(with(config, "architectures", R"(["XForSequenceClassification"])")));
    CHECK(read_config(with(config, "architectures", R"(["XModel"])")).head.kind == head_kind::none);
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "is no multiple of the 7 attention heads",
                read_config(with(with(config, "n_head", "7"), "num_attention_heads", "7")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "vocab_size is 0", read_config(with(config, "vocab_size", "0")));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, aliases || type == "bloom" ? "n_layer is -1" : "num_hidden_layers is -1",
                read_config(with(with(config, "n_layer", "-1"), "num_hidden_layers", "-1")));
    if (type != "bloom")
      CHECK_ERROR(
          FT_ERROR_UNSUPPORTED, "'quick_gelu' is not supported",
          read_config(with(with(config, "activation_function", "\"quick_gelu\""), "hidden_act", "\"quick_gelu\"")));
  }
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "cross-attention", read_config(with(gpt2_xl, "add_cross_attention", "true")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "1073741824 attention heads",
              read_config(with(with(bloom_560m, "n_embed", "1073741824"), "num_attention_heads", "1073741824")));
}
