// Config maps of the Llama line, from the config.json texts that the models are published with (shortened to the keys
// that matter to inference) and from GGUF metadata.
#include <cmath>
#include <nlohmann/json.hpp>

#include "archs/config_texts.h"
#include "check.h"

using namespace ft;
using test::checkpoint_builder;
using test::read_config;
using test::with;

namespace {

const std::string llama_3_1_8b = R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096,
  "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256})";

const std::string gemma_2_2b = R"({"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
  "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
  "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
  "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
  "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26,
  "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
  "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000})";

const std::string gemma_3_1b = R"({"architectures": ["Gemma3ForCausalLM"], "attention_bias": false,
  "attn_logit_softcapping": null, "bos_token_id": 2, "eos_token_id": [1, 106], "final_logit_softcapping": null,
  "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
  "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26,
  "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
  "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512,
  "sliding_window_pattern": 6, "vocab_size": 262144})";

std::string small(const std::string& model_type, const std::string& more = "") {
  return R"({"model_type": ")" + model_type +
         R"(", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2)" +
         more + "}";
}

std::vector<int64_t> windows(const arch::model_config& c) {
  std::vector<int64_t> w;
  for (const arch::layer_config& layer : c.layers) w.push_back(layer.window);
  return w;
}

}  // namespace

TEST(llama_3_1_config) {
  const arch::model_config c = read_config(llama_3_1_8b);
  CHECK_EQ(c.family, "llama");
  CHECK_EQ(c.architecture, "LlamaForCausalLM");
  CHECK(c.head.kind == arch::head_kind::causal_lm && c.causal && !c.embedding.tied);
  CHECK_EQ(c.tokens.vocab_size, 128256);
  CHECK_EQ(c.attention.num_kv_heads, 8);
  CHECK_EQ(c.attention.head_dim, 128);
  CHECK_EQ(c.positions.max, 131072);
  CHECK(c.mlp.activation == activation_kind::silu && c.norm.kind == norm_kind::rms);
  CHECK_EQ(c.norm.epsilon, 1e-5f);
  CHECK_EQ(c.attention.scale, static_cast<float>(1 / std::sqrt(128.0)));
  CHECK_EQ(c.positions.rotary.size(), 1u);
  CHECK_EQ(c.positions.rotary[0].scaling, "llama3");
  CHECK(c.positions.rotary[0].style == rotary_style::half);
  CHECK(c.tokens.stop_ids == std::vector<int32_t>({128001, 128008, 128009}));
  CHECK_EQ(c.tokens.bos_id, 128000);
  CHECK(!c.attention.bias && !c.attention.output_bias && !c.mlp.bias && !c.attention.query_key_norm);
  CHECK(windows(c) == std::vector<int64_t>(32, 0));
}

TEST(llama_config_as_json_has_the_keys_that_users_ask_for) {
  const io::json_ptr tree = read_config(llama_3_1_8b).to_json();
  const io::json& j = *tree;
  CHECK_EQ(j.at("architecture"), "LlamaForCausalLM");
  CHECK_EQ(j.at("family"), "llama");
  for (const auto& [key, value] : {std::pair{"num_layers", 32},
                                   {"hidden_size", 4096},
                                   {"num_heads", 32},
                                   {"num_kv_heads", 8},
                                   {"head_dim", 128},
                                   {"vocab_size", 128256},
                                   {"max_positions", 131072},
                                   {"intermediate_size", 14336},
                                   {"rotary_dim", 128}})
    CHECK_MSG(j.at(key) == value, key, " is ", j.at(key).dump());
  CHECK_EQ(j.at("rope_theta"), 500000.0);
  CHECK_EQ(j.at("head"), "causal_lm");
  CHECK_EQ(j.at("stop_token_ids").size(), 3u);
}

TEST(biases_of_the_llama_line) {
  CHECK(read_config(small("llama", R"(, "attention_bias": true)")).attention.output_bias);
  CHECK(read_config(small("llama", R"(, "mlp_bias": true)")).mlp.bias);
  const arch::model_config qwen2 = read_config(small("qwen2"));
  CHECK(qwen2.attention.bias && !qwen2.attention.output_bias && !qwen2.attention.query_key_norm);
  const arch::model_config qwen3 = read_config(small("qwen3"));
  CHECK(!qwen3.attention.bias && qwen3.attention.query_key_norm);
  CHECK_EQ(qwen3.attention.head_dim, 128);  // transformers' default, whatever hidden_size / num_heads is
  CHECK_EQ(qwen2.attention.head_dim, 8);
}

TEST(mistral_windows) {
  CHECK(windows(read_config(small("mistral", R"(, "sliding_window": 7)"))) == std::vector<int64_t>(4, 7));
  CHECK(windows(read_config(small("mistral", R"(, "sliding_window": null)"))) == std::vector<int64_t>(4, 0));
  CHECK(windows(read_config(small("mistral"))) == std::vector<int64_t>(4, 4096));
}

TEST(qwen2_windows) {
  const std::string keys = R"(, "sliding_window": 7, "max_window_layers": 3)";
  CHECK(windows(read_config(small("qwen2", keys))) == std::vector<int64_t>(4, 0));
  CHECK(windows(read_config(small("qwen2", keys + R"(, "use_sliding_window": true)"))) ==
        std::vector<int64_t>({0, 0, 0, 7}));
  const std::string types = R"(, "layer_types": ["sliding_attention", "full_attention", "full_attention",
      "sliding_attention"])";
  CHECK(windows(read_config(small("qwen2", keys + types + R"(, "use_sliding_window": true)"))) ==
        std::vector<int64_t>({7, 0, 0, 7}));
  CHECK(windows(read_config(small("qwen2", keys + types))) == std::vector<int64_t>(4, 0));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "layer_types",
              read_config(small("qwen2", R"(, "layer_types": ["full_attention"])")));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "chunked_attention",
              read_config(small("qwen3", R"(, "layer_types": ["chunked_attention", "full_attention", "full_attention",
                  "full_attention"])")));
}

TEST(gemma_2_config) {
  const arch::model_config c = read_config(gemma_2_2b);
  CHECK(c.embedding.tied && c.block == arch::block_kind::sandwich && !c.attention.query_key_norm);
  CHECK_EQ(c.embedding.scale, 48.0f);
  CHECK_EQ(c.norm.weight_offset, 1.0f);
  CHECK_EQ(c.attention.scale, 0.0625f);
  CHECK_EQ(c.attention.softcap, 50.0f);
  CHECK_EQ(c.head.logits_softcap, 30.0f);
  CHECK(c.mlp.activation == activation_kind::gelu_tanh);
  CHECK_EQ(c.layers[0].window, 4096);
  CHECK_EQ(c.layers[1].window, 0);
  CHECK_EQ(c.layers[24].window, 4096);
  CHECK_EQ(c.positions.rotary.size(), 1u);
}

TEST(gemma_3_config_has_two_rotary_tables) {
  const arch::model_config c = read_config(gemma_3_1b);
  CHECK(c.attention.query_key_norm && c.block == arch::block_kind::sandwich && c.embedding.tied);
  CHECK_EQ(c.attention.softcap, 0.0f);
  CHECK_EQ(c.positions.rotary.size(), 2u);
  CHECK_EQ(c.positions.rotary[0].theta, 1e6);
  CHECK_EQ(c.positions.rotary[1].theta, 1e4);
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const bool full = i % 6 == 5;
    CHECK_EQ(c.layers[i].window, full ? 0 : 512);
    CHECK_EQ(c.layers[i].rotary, full ? 0 : 1);
  }
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "use_bidirectional_attention",
              read_config(with(gemma_3_1b, "use_bidirectional_attention", "true")));
}

TEST(decoders_as_classifiers_are_refused) {
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "LlamaForSequenceClassification",
              read_config(with(llama_3_1_8b, "architectures", R"(["LlamaForSequenceClassification"])")));
  CHECK(read_config(with(llama_3_1_8b, "architectures", R"(["LlamaModel"])")).head.kind == arch::head_kind::none);
}

TEST(faulty_llama_configs_are_named) {
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "num_hidden_layers is -3",
              read_config(with(llama_3_1_8b, "num_hidden_layers", "-3")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "num_hidden_layers", read_config(with(llama_3_1_8b, "num_hidden_layers", "1e30")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "32 attention heads cannot share 5",
              read_config(with(llama_3_1_8b, "num_key_value_heads", "5")));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "cannot turn 7 elements of heads of 7",
              read_config(with(llama_3_1_8b, "head_dim", "7")));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "hidden_act 'quick_gelu'",
              read_config(with(llama_3_1_8b, "hidden_act", "\"quick_gelu\"")));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "'mamba'", read_config(R"({"model_type": "mamba"})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "model_type is not given", read_config("{}"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "eos_token_id", read_config(with(llama_3_1_8b, "eos_token_id", "[[1]]")));
}

TEST(equal_output_matrices_are_tied_and_others_are_not) {
  checkpoint_builder model(small("llama", R"(, "tie_word_embeddings": true)"));
  model.add("model.embed_tokens.weight", {100, 32});
  const auto config_of = [](const io::checkpoint& source) { return arch::family_of(source).config(source); };
  CHECK(config_of(*model.open()).embedding.tied);
  model.add("lm_head.weight", {100, 32});  // other values
  CHECK(!config_of(*model.open()).embedding.tied);
}

namespace {

io::gguf_value integer(const char* key, int64_t value) { return {key, std::vector<int64_t>{value}}; }
io::gguf_value number(const char* key, double value) { return {key, std::vector<double>{value}}; }
io::gguf_value text(const char* key, const char* value) { return {key, std::vector<std::string>{value}}; }

io::stored_tensor stored(const char* name, std::vector<float>& data, std::initializer_list<int64_t> shape) {
  return {name, tensor(data.data(), dtype::f32, shape), io::mapped_file::wrap(data.data(), data.size() * 4, "memory")};
}

}  // namespace

TEST(gguf_llama_config) {
  std::vector<float> embedding(100 * 32), factors = {1, 1, 2, 4};
  io::gguf_file parts;
  parts.metadata = io::gguf_metadata(
      "tiny.gguf", {text("general.architecture", "llama"),
                    integer("llama.block_count", 2),
                    integer("llama.context_length", 512),
                    integer("llama.embedding_length", 32),
                    integer("llama.feed_forward_length", 48),
                    integer("llama.attention.head_count", 4),
                    integer("llama.attention.head_count_kv", 2),
                    number("llama.rope.freq_base", 10000),
                    number("llama.attention.layer_norm_rms_epsilon", 1e-5),
                    integer("tokenizer.ggml.eos_token_id", 2),
                    integer("tokenizer.ggml.bos_token_id", 1),
                    {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "</s>", "<|eot_id|>"}}});
  parts.tensors.push_back(stored("token_embd.weight", embedding, {100, 32}));
  parts.tensors.push_back(stored("rope_freqs.weight", factors, {4}));
  const auto source = io::checkpoint::from_parts("tiny.gguf", std::move(parts));
  const arch::family& family = arch::family_of(*source);
  const arch::model_config c = family.config(*source);
  CHECK_EQ(c.tokens.vocab_size, 100);
  CHECK_EQ(c.attention.head_dim, 8);
  CHECK(c.embedding.tied);  // there is no output.weight
  CHECK(c.positions.rotary[0].style == rotary_style::interleaved);
  CHECK(std::abs(c.positions.rotary[0].inverse_frequency[3] - 0.001f / 4) < 1e-9f);
  CHECK(c.tokens.stop_ids == std::vector<int32_t>({2, 3}));
  const auto match = arch::match(family.weights(c, source->format()), *source);
  CHECK(match.unused.empty());
}
