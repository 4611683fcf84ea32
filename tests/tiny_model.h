// A seeded two-layer Llama written as a Hugging Face folder, for tests that need a whole model and no Python.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace ft::test {

class tiny_llama {
 public:
  static constexpr int vocab = 96, hidden = 32, layers = 2, heads = 4, kv_heads = 2, head_dim = 8, width = 48,
                       positions = 256, stop_token = 2;

  explicit tiny_llama(uint32_t seed = 1) {
    char name[] = "/tmp/ft-tiny-XXXXXX";
    if (!mkdtemp(name)) throw std::runtime_error("mkdtemp failed");
    path_ = name;
    write_config();
    write_weights(seed);
  }
  ~tiny_llama() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  tiny_llama(const tiny_llama&) = delete;
  tiny_llama& operator=(const tiny_llama&) = delete;

  const std::string& path() const { return path_; }

 private:
  void write_config() const {
    const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                   {"model_type", "llama"},
                                   {"torch_dtype", "float32"},
                                   {"vocab_size", vocab},
                                   {"hidden_size", hidden},
                                   {"num_hidden_layers", layers},
                                   {"num_attention_heads", heads},
                                   {"num_key_value_heads", kv_heads},
                                   {"intermediate_size", width},
                                   {"max_position_embeddings", positions},
                                   {"hidden_act", "silu"},
                                   {"rms_norm_eps", 1e-5},
                                   {"rope_theta", 10000.0},
                                   {"tie_word_embeddings", true},
                                   {"eos_token_id", stop_token},
                                   {"bos_token_id", 1}};
    std::ofstream(path_ + "/config.json") << config;
  }

  void write_weights(uint32_t seed) const {
    std::vector<std::pair<std::string, std::vector<int>>> tensors = {{"model.embed_tokens.weight", {vocab, hidden}},
                                                                     {"model.norm.weight", {hidden}}};
    for (int l = 0; l < layers; ++l) {
      const std::string at = "model.layers." + std::to_string(l) + ".";
      tensors.insert(tensors.end(), {{at + "input_layernorm.weight", {hidden}},
                                     {at + "post_attention_layernorm.weight", {hidden}},
                                     {at + "self_attn.q_proj.weight", {heads * head_dim, hidden}},
                                     {at + "self_attn.k_proj.weight", {kv_heads * head_dim, hidden}},
                                     {at + "self_attn.v_proj.weight", {kv_heads * head_dim, hidden}},
                                     {at + "self_attn.o_proj.weight", {hidden, heads * head_dim}},
                                     {at + "mlp.gate_proj.weight", {width, hidden}},
                                     {at + "mlp.up_proj.weight", {width, hidden}},
                                     {at + "mlp.down_proj.weight", {hidden, width}}});
    }
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 0.3f);
    nlohmann::json header;
    std::vector<float> data;
    for (const auto& [name, shape] : tensors) {
      const size_t begin = data.size() * sizeof(float);
      int64_t count = 1;
      for (int d : shape) count *= d;
      for (int64_t i = 0; i < count; ++i)
        data.push_back(shape.size() == 1 ? 1.0f + 0.1f * normal(random) : normal(random));
      header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data.size() * sizeof(float)}}};
    }
    const std::string text = header.dump();
    const uint64_t length = text.size();
    std::ofstream file(path_ + "/model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << text;
    file.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size() * sizeof(float)));
  }

  std::string path_;
};

}  // namespace ft::test
