// A model's configuration in libft's own terms: what every family's config map fills in. Who adds a field adds it to
// arch/config/config_fields.h, by which manifests, JSON for people and checks find it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/text/json.h"
#include "nn/mlp.h"
#include "ops/activation.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "ops/rotary.h"

namespace ft::arch {

enum class head_kind : uint8_t { none, causal_lm, masked_lm, sequence_classification, token_classification };

using nn::mlp_kind;

// How a layer joins its two branches; arch/networks/layer.cc has the formulas.
enum class block_kind : uint8_t {
  pre_norm,
  sandwich,         // norms after attention and feed-forward too (Gemma 2 and 3)
  parallel,         // both branches read the layer's input (GPT-J, GPT-NeoX)
  post_norm,        // norms after the additions (OPT-350m)
  normed_residual,  // the branches' norms are on the residual too (BLOOM's apply_residual_connection_post_layernorm)
};

struct rotary_config {
  std::vector<float> inverse_frequency;  // scaling already applied
  float attention_factor = 1;            // YaRN's (arXiv:2309.00071)
  rotary_style style = rotary_style::half;
  double theta = 10000;             // base of the frequencies, and
  std::string scaling = "default";  // the scaling's name; for people to read
};

// What one layer has for itself.
struct layer_config {
  int64_t window = 0;         // sliding window; 0: full attention
  int rotary = 0;             // index into positions_config::rotary
  float attention_scale = 1;  // times attention_config::scale (GPT-2's scale_attn_by_inverse_layer_idx)
};

struct attention_config {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 0;              // of queries times keys; 0: 1 / sqrt(head_dim)
  float softcap = 0;            // 0: none
  bool bias = false;            // on query, key and value
  bool output_bias = false;     // on what follows
  bool query_key_norm = false;  // a norm of each head's query and key
};

struct mlp_config {
  mlp_kind kind = mlp_kind::plain;
  int64_t intermediate_size = 0;
  activation_kind activation = activation_kind::none;
  bool bias = false;

  bool gated() const { return kind == mlp_kind::gated; }
};

// What a norm does; where norms are, the stack says.
struct norm_config {
  norm_kind kind = norm_kind::layer;
  float epsilon = 1e-5f;
  float weight_offset = 0;
  bool weights = true;  // false: norms only normalise (OPT's layer_norm_elementwise_affine)
};

// Learned, sinusoidal, rotary, ALiBi, a bias by relative distance, or none.
struct positions_config {
  int64_t max = 0;
  bool learned = false;
  bool sinusoidal = false;            // Marian
  int64_t offset = 0;                 // row of a learned table's first position. RoBERTa: padding_idx + 1; OPT: 2
  std::vector<rotary_config> rotary;  // distinct ones
  std::vector<float> alibi_slopes;    // [num_heads] (arXiv:2108.12409), or empty
  int64_t relative_buckets = 0;       // T5
  int64_t relative_max_distance = 0;

  // Elements of a head that are turned; 0 for models without rotary positions.
  int64_t rotary_dim() const {
    return rotary.empty() ? 0 : 2 * static_cast<int64_t>(rotary.front().inverse_frequency.size());
  }
};

// A stack of equal layers.
struct stack_config {
  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  block_kind block = block_kind::pre_norm;
  attention_config attention;
  mlp_config mlp;
  norm_config norm;
  bool shared_norm = false;     // a parallel block's one norm serves both branches (GPT-J)
  bool embedding_norm = false;  // after the embedding (BLOOM)
  bool final_norm = true;       // after the last layer
  positions_config positions;
  std::vector<layer_config> layers;  // [num_layers]
};

struct tokens_config {
  int64_t vocab_size = 0;
  int64_t encoder_vocab_size = 0;  // of an encoder-decoder's sources
  int64_t type_vocab_size = 0;     // BERT's token types
  int32_t bos_id = -1;             // -1: none, as below
  int32_t pad_id = -1;
  std::vector<int32_t> stop_ids;
  int32_t decoder_start_id = -1;        // before every answer of an encoder-decoder
  int32_t forced_bos_id = -1;           // the first token of every answer
  std::vector<int32_t> forced_eos_ids;  // the last of every answer that reaches its length
};

struct embedding_config {
  int64_t size = 0;  // where it is not hidden_size (OPT-350m), else 0
  float scale = 1;
  bool tied = false;   // the output projection is the table again
  bool shared = true;  // one table for both vocabularies of an encoder-decoder
};

// What makes an answer of the last hidden state.
struct head_config {
  head_kind kind = head_kind::none;
  float input_scale = 1;     // T5: of the hidden state before the output projection
  float logits_softcap = 0;  // 0: none
  bool has_pooler = false;
  activation_kind classifier_activation = activation_kind::tanh;  // between a sequence classifier's two matrices
  int64_t num_labels = 0;
  std::vector<std::string> label_names;
};

struct pooling_config {  // sentence-transformers
  pool_kind kind = pool_kind::mean;
  bool normalize = false;
};

// A model is a stack with what is around it. An encoder-decoder is its decoder, and has an encoder beside it; a T5
// encoder alone is in both.
struct model_config : stack_config {
  std::string family;            // the registry's name: "llama", "bert"
  std::string architecture;      // the checkpoint's own: "LlamaForCausalLM", "qwen2", ...
  std::string model_type;        // the variant within the family: "mistral", "gemma2", "roberta", ...
  std::string checkpoint_dtype;  // most of the weights': "float32", "bfloat16", "q4_1", ...
  bool causal = false;           // a decoder: tokens see only what is before them, and keys and values are cached
  bool is_encoder_decoder = false;

  tokens_config tokens;
  embedding_config embedding;
  stack_config encoder;
  head_config head;
  pooling_config pooling;

  // Whether projections stand between embeddings and layers.
  bool projects_embedding() const { return embedding.size != 0 && embedding.size != hidden_size; }
  // The width of the last hidden state.
  int64_t output_size() const { return projects_embedding() ? embedding.size : hidden_size; }
  // The width of the logits, where there are any.
  int64_t logits_size() const {
    return head.kind == head_kind::causal_lm || head.kind == head_kind::masked_lm ? tokens.vocab_size : head.num_labels;
  }

  io::json_ptr to_json() const;  // what ft_model_config returns
};

}  // namespace ft::arch
