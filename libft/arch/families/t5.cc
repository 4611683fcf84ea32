// The T5 line (arXiv:1910.10683): encoder-decoders with RMSNorm before each block, no positions but a bias by relative
// distance that all layers share, and attention without a scale. T5, T5 v1.1 (gated, untied) with Flan-T5
// (arXiv:2210.11416) and UL2 (arXiv:2205.05131), mT5 (arXiv:2010.11934), and the encoders alone. The recipe is in
// encoder_decoder.cc.
#include <cmath>

#include "arch/config/config_reading.h"
#include "arch/families/decoder_config.h"
#include "arch/families/families.h"
#include "arch/networks/encoder_decoder.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// T5 has no last position; this bounds what a session may plan for.
constexpr int64_t most_positions = 32768;

// Distances at which buckets end: far beyond any model's, and the table by distance stays small.
constexpr int64_t furthest = 1 << 16;

// "relu", or "gated-gelu": what config.json calls the feed-forward block.
void read_feed_forward(model_config& c, const io::json_reader& config, std::string_view otherwise) {
  std::string name = config.string("feed_forward_proj", otherwise);
  constexpr std::string_view gated = "gated-";
  if (name.starts_with(gated)) c.mlp.kind = mlp_kind::gated;
  if (c.mlp.gated()) name.erase(0, gated.size());
  if (c.mlp.gated() && name == "gelu") name = "gelu_new";  // the approximation, by the line's own custom
  c.mlp.activation = activation_named(name, "feed_forward_proj", config.file());
}

void read_relative_bias(model_config& c, const io::json_reader& config) {
  c.positions.relative_buckets = read_size(
      config,
      given_key(config, {"relative_attention_num_buckets", "relative_attention_num_buckets_or_max_pos_seq_len"}), 32);
  c.positions.relative_max_distance = read_size(config, "relative_attention_max_distance", 128);
  if (c.positions.relative_buckets < 4 || c.positions.relative_buckets % 4 != 0 ||
      c.positions.relative_max_distance <= c.positions.relative_buckets / 2 ||
      c.positions.relative_max_distance > furthest)
    fail(FT_ERROR_CHECKPOINT, config.file(), ": ", c.positions.relative_buckets,
         " relative_attention_num_buckets up to a ", "relative_attention_max_distance of ",
         c.positions.relative_max_distance, " cannot be; the first must be a multiple of 4, ",
         "the second more than half of it and at most ", furthest);
}

// All models of the line are saved as tied or say that they are; as in transformers, an output matrix in the file
// counts where it differs from the embedding.
bool has_own_output(const io::checkpoint& source) {
  const io::stored_tensor *output = source.find("lm_head.weight"), *input = source.find("shared.weight");
  if (!input) input = source.find("shared.weight_T");
  if (!output || !input) return output != nullptr;
  return !same_elements(output->data, input->data);
}

void read_head(model_config& c, const io::checkpoint& source) {
  const io::json_reader config = source.config();
  c.architecture = read_architecture(config, c.model_type);
  const std::string_view name = c.architecture;
  c.is_encoder_decoder = !name.ends_with("EncoderModel");
  c.causal = c.is_encoder_decoder;
  const bool language = name.ends_with("ForConditionalGeneration") || name.ends_with("WithLMHeadModel");
  if (!language && c.is_encoder_decoder && !name.ends_with("Model") && name != c.model_type)
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": ", name,
         " is not supported; models for conditional generation, bare models and encoders are");
  if (!language) return;
  c.head.kind = head_kind::causal_lm;
  c.embedding.tied = !has_own_output(source);
  // Original T5 scales what it projects. v1.1 does not: its files say so, or, the older ones, that they are untied,
  // even where they are not.
  if (c.model_type == "t5" && config.boolean("scale_decoder_outputs", config.boolean("tie_word_embeddings", true)))
    c.head.input_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.hidden_size)));
}

void read_sizes(model_config& c, const io::json_reader& config) {
  c.family = "t5";
  c.model_type = config.string("model_type", "");
  const bool mt5 = c.model_type == "mt5";
  c.tokens.vocab_size = read_size(config, "vocab_size", mt5 ? 250112 : 32128);
  c.tokens.encoder_vocab_size = c.tokens.vocab_size;
  c.hidden_size = read_size(config, "d_model", 512);
  c.attention.head_dim = read_size(config, "d_kv", 64);
  c.attention.num_heads = c.attention.num_kv_heads = read_size(config, "num_heads", mt5 ? 6 : 8);
  c.mlp.intermediate_size = read_size(config, "d_ff", mt5 ? 1024 : 2048);
  c.num_layers = config.has("num_layers") ? read_layer_count(config, "num_layers") : int64_t{mt5 ? 8 : 6};
  c.positions.max = most_positions;
  read_feed_forward(c, config, mt5 ? "gated-gelu" : "relu");
  read_relative_bias(c, config);
  c.attention.scale = 1;
  c.norm.kind = norm_kind::rms;
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-6));
  c.encoder = c;  // the decoder may yet have another number of layers
}

// FasterTransformer's config.ini: what transformers says of the two stacks, in a section each.
model_config from_faster_transformer(const io::checkpoint& source) {
  const io::json_reader ini = source.config(), encoder = *ini.object("encoder");
  model_config c;
  read_sizes(c, encoder);
  c.checkpoint_dtype = most_common_dtype(source);
  c.architecture = "T5EncoderModel";
  if (const auto structure = ini.object("structure")) {
    if (structure->boolean("t5_with_bias", false) ||
        structure->string("position_embedding_type", "relative") != "relative" ||
        structure->integer("ia3_num_tasks", 0))
      fail(FT_ERROR_UNSUPPORTED, ini.file(), ": T5 with biases, absolute positions or IA3 is not supported");
  }
  const std::optional<io::json_reader> decoder = ini.object("decoder");
  if (decoder && decoder->has("num_layers")) {
    c.architecture = "T5ForConditionalGeneration";
    c.is_encoder_decoder = c.causal = true;
    c.head.kind = head_kind::causal_lm;
    c.num_layers = read_layer_count(*decoder, "num_layers");
    c.embedding.tied = !has_own_output(source);
    if (decoder->boolean("scale_decoder_outputs", decoder->boolean("tie_word_embeddings", true)))
      c.head.input_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.hidden_size)));
    c.tokens.decoder_start_id = read_token_id(*decoder, "decoder_start_token_id");
    if (const int32_t end = read_token_id(*decoder, "eos_token_id"); end >= 0) c.tokens.stop_ids = {end};
    c.tokens.pad_id = read_token_id(*decoder, "pad_token_id");
  }
  check_heads(c, source);
  return c;
}

model_config t5_config(const io::checkpoint& source) {
  if (source.format() == io::checkpoint_format::faster_transformer) return from_faster_transformer(source);
  const io::json_reader config = source.config();
  model_config c;
  read_sizes(c, config);
  const bool mt5 = c.model_type == "mt5";
  c.checkpoint_dtype = most_common_dtype(source);
  read_head(c, source);
  if (c.is_encoder_decoder && config.has("num_decoder_layers"))
    c.num_layers = read_layer_count(config, "num_decoder_layers");
  check_heads(c, source);
  read_special_tokens(c, source);
  read_decoder_tokens(c, source, {.decoder_start = mt5 ? 0 : -1});
  return c;
}

// One attention block: in T5's files "layer.0.SelfAttention", "layer.1.EncDecAttention".
void add_attention(table_builder& t, const model_config& c, const std::string& ours, const std::string& theirs) {
  using enum shard_axis;
  const int64_t width = c.attention.num_heads * c.attention.head_dim;
  t.matrix(ours + ".query", theirs + ".q", width, c.hidden_size, column, false);
  t.matrix(ours + ".key", theirs + ".k", width, c.hidden_size, column, false);
  t.matrix(ours + ".value", theirs + ".v", width, c.hidden_size, column, false);
  t.matrix(ours + ".output", theirs + ".o", c.hidden_size, width, row, false);
}

// FasterTransformer's: the decoder's query, key and value are one matrix.
void add_fused_attention(table_builder& t, const model_config& c) {
  weight_layout layout{.parts = 3};
  for (const char* ours : {"attention.query", "attention.key", "attention.value"}) {
    t.matrix(ours, "0.SelfAttention.qkv", c.attention.num_heads * c.attention.head_dim, c.hidden_size,
             shard_axis::column, false, layout);
    ++layout.part;
  }
  t.matrix("attention.output", "0.SelfAttention.o", c.hidden_size, c.attention.num_heads * c.attention.head_dim,
           shard_axis::row, false);
}

void add_stack(table_builder& t, const model_config& c, bool decoder, bool by_ranks) {
  using enum shard_axis;
  const std::string name = decoder ? "decoder." : "encoder.";
  t.enter(name, name);
  t.add("relative_bias", ".weight", "block.0.layer.0.SelfAttention.relative_attention_bias", ".weight",
        {c.positions.relative_buckets, c.attention.num_heads}, row);
  for (int64_t i = 0; i < (decoder ? c.num_layers : c.encoder.num_layers); ++i) {
    t.enter(cat(name, "layers.", i, "."), cat(name, "block.", i, ".layer."));
    if (decoder && by_ranks)
      add_fused_attention(t, c);
    else
      add_attention(t, c, "attention", "0.SelfAttention");
    t.rms_norm("attention_norm", "0.layer_norm", c.hidden_size);
    if (decoder) {
      add_attention(t, c, "cross", "1.EncDecAttention");
      t.rms_norm("cross_norm", "1.layer_norm", c.hidden_size);
    }
    const std::string dense = decoder ? "2.DenseReluDense." : "1.DenseReluDense.";
    if (c.mlp.gated())
      t.matrix("feed_forward.gate", dense + (by_ranks ? "wi" : "wi_0"), c.mlp.intermediate_size, c.hidden_size, column,
               false);
    t.matrix("feed_forward.up",
             dense + (!c.mlp.gated() ? "wi"
                      : by_ranks     ? "wi2"
                                     : "wi_1"),
             c.mlp.intermediate_size, c.hidden_size, column, false);
    t.matrix("feed_forward.down", dense + "wo", c.hidden_size, c.mlp.intermediate_size, row, false);
    t.rms_norm("feed_forward_norm", decoder ? "2.layer_norm" : "1.layer_norm", c.hidden_size);
  }
  t.enter(name, name);
  t.rms_norm("norm", "final_layer_norm", c.hidden_size);
}

weight_table t5_weights(const model_config& c, io::checkpoint_format format) {
  const bool by_ranks = format == io::checkpoint_format::faster_transformer;
  table_builder t({""});
  weight_spec& embedding =
      t.matrix("embedding", "shared", c.tokens.vocab_size, c.hidden_size, shard_axis::vocabulary, false);
  for (const char* other : {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})
    embedding.sources.push_back(other);
  if (c.embedding.tied) embedding.sources.push_back("lm_head.weight");
  add_stack(t, c, false, by_ranks);
  if (c.is_encoder_decoder) add_stack(t, c, true, by_ranks);
  t.enter("", "");
  if (c.head.kind == head_kind::causal_lm && !c.embedding.tied)
    t.matrix("output", "lm_head", c.tokens.vocab_size, c.hidden_size, shard_axis::vocabulary, false);
  weight_table table = t.take();
  if (!by_ranks) return table;
  table.front().sources = {"shared.weight_T"};
  for (weight_spec& spec : table)
    for (weight_source& source : spec.sources) {
      source.layout.flat = true;
      source.layout.transposed = spec.shard != shard_axis::vocabulary;
    }
  return table;
}

}  // namespace

family t5_family() {
  return {.name = "t5",
          .hugging_face = {"t5", "mt5"},
          .gguf = {},
          .sections = {"encoder"},
          .config = t5_config,
          .weights = t5_weights,
          .build = build_encoder_decoder};
}

}  // namespace ft::arch
