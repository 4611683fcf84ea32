// A model's configuration in libft's own terms: what every family's config map fills in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/text/json.h"
#include "ops/activation.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "ops/rotary.h"

namespace ft::arch {

enum class head_kind : uint8_t { none, causal_lm, masked_lm, sequence_classification, token_classification };

struct rotary_config {
  std::vector<float> inverse_frequency;  // scaling already applied
  float attention_factor = 1;            // YaRN's (arXiv:2309.00071)
  rotary_style style = rotary_style::half;
  double theta = 10000;             // base of the frequencies, and
  std::string scaling = "default";  // the scaling's name; for people to read
};

struct layer_config {
  int64_t window = 0;         // sliding window; 0: full attention
  int rotary = 0;             // index into model_config::rotary
  float attention_scale = 1;  // times the model's (GPT-2's scale_attn_by_inverse_layer_idx)
};

// How a decoder's layer joins its two branches; arch/networks/decoder.cc has the formulas.
enum class block_kind : uint8_t {
  pre_norm,
  sandwich,         // norms after attention and feed-forward too (Gemma 2 and 3)
  parallel,         // both branches read the layer's input (GPT-J, GPT-NeoX)
  post_norm,        // norms after the additions (OPT-350m)
  normed_residual,  // the branches' norms are on the residual too (BLOOM's apply_residual_connection_post_layernorm)
};

struct model_config {
  std::string family;        // the registry's name: "llama", "bert"
  std::string architecture;  // the checkpoint's own: "LlamaForCausalLM", "qwen2", ...
  std::string model_type;    // the variant within the family: "mistral", "gemma2", "roberta", ...
  head_kind head = head_kind::none;
  bool causal = false;  // a decoder: tokens see only what is before them, and keys and values are cached

  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t max_positions = 0;

  activation_kind activation = activation_kind::none;
  norm_kind norm = norm_kind::layer;
  float norm_epsilon = 1e-5f;
  float norm_weight_offset = 0;
  float embedding_scale = 1;
  float attention_scale = 0;
  float attention_softcap = 0;
  float logits_softcap = 0;

  bool tied_embeddings = false;
  bool attention_bias = false;  // on query, key and value
  bool attention_output_bias = false;
  bool feed_forward_bias = false;

  // Positions: learned, rotary, ALiBi or none. Learned ones begin at row position_offset of their table.
  bool learned_positions = false;
  int64_t position_offset = 0;        // RoBERTa: padding_idx + 1; OPT: 2
  std::vector<rotary_config> rotary;  // distinct ones
  std::vector<float> alibi_slopes;    // [num_heads] (arXiv:2108.12409), or empty

  // Decoders.
  block_kind block = block_kind::pre_norm;
  bool gated_feed_forward = false;
  bool query_key_norm = false;
  bool shared_norm = false;          // a parallel block's one norm serves both branches (GPT-J)
  bool norm_weights = true;          // false: norms only normalise (OPT's layer_norm_elementwise_affine)
  bool embedding_norm = false;       // after the embedding (BLOOM)
  bool final_norm = true;            // after the last layer
  int64_t embedding_size = 0;        // where it is not hidden_size (OPT-350m), else 0
  std::vector<layer_config> layers;  // [num_layers]

  // Encoder-decoders. The sizes above are the decoder's; the encoder has its own where they may differ.
  bool is_encoder_decoder = false;
  int64_t num_encoder_layers = 0;
  int64_t num_encoder_heads = 0;  // which share out as many elements as the decoder's
  int64_t encoder_intermediate_size = 0;
  int64_t encoder_vocab_size = 0;
  bool shared_embeddings = true;  // one table for both vocabularies
  int32_t decoder_start_token_id = -1;
  int32_t forced_bos_token_id = -1;           // the first token of every answer; -1: none
  std::vector<int32_t> forced_eos_token_ids;  // the last of every answer that reaches its length
  int64_t relative_buckets = 0;               // T5: of the relative position bias
  int64_t relative_max_distance = 0;
  bool sinusoidal_positions = false;  // Marian
  float output_scale = 1;             // T5: of the hidden state before the output projection

  // Encoders.
  int64_t type_vocab_size = 0;
  bool has_pooler = false;
  activation_kind classifier_activation = activation_kind::tanh;  // between a sequence classifier's two matrices
  int64_t num_labels = 0;
  std::vector<std::string> label_names;
  pool_kind pooling = pool_kind::mean;  // sentence-transformers
  bool pooling_normalize = false;

  std::string checkpoint_dtype;  // most of the weights': "float32", "bfloat16", "q4_1", ...
  std::vector<int32_t> stop_token_ids;
  int32_t bos_token_id = -1;
  int32_t pad_token_id = -1;

  // Elements of a head that are turned; 0 for models without rotary positions.
  int64_t rotary_dim() const {
    return rotary.empty() ? 0 : 2 * static_cast<int64_t>(rotary.front().inverse_frequency.size());
  }

  // Whether projections stand between embeddings and layers.
  bool projects_embedding() const { return embedding_size != 0 && embedding_size != hidden_size; }
  // The width of the last hidden state.
  int64_t output_size() const { return projects_embedding() ? embedding_size : hidden_size; }

  io::json_ptr to_json() const;  // what ft_model_config returns
};

}  // namespace ft::arch
