#include "arch/networks/encoder_decoder.h"

#include "arch/networks/positions.h"
#include "arch/networks/recipe.h"
#include "arch/weights/weight_loader.h"

namespace ft::arch {
namespace {

using shared_embedding = std::shared_ptr<const nn::embedding>;

stack_shape encoder_shape(const model_config& c) {
  return {.at = "encoder.",
          .block = c.block,
          .num_layers = c.encoder.num_layers,
          .num_heads = c.encoder.attention.num_heads,
          .num_kv_heads = c.encoder.attention.num_heads,
          .head_dim = c.attention.num_heads * c.attention.head_dim / c.encoder.attention.num_heads,
          .final_norm = c.final_norm};
}

stack_shape decoder_shape(const model_config& c) {
  return {.at = "decoder.",
          .block = c.block,
          .causal = true,
          .cross = true,
          .num_layers = c.num_layers,
          .num_heads = c.attention.num_heads,
          .num_kv_heads = c.attention.num_heads,
          .head_dim = c.attention.head_dim,
          .final_norm = c.final_norm};
}

// Sinusoidal positions are computed, and the same for both sides.
side load_side(weight_loader& load, const model_config& c, const stack_shape& shape, const io::rank_share& share,
               shared_embedding words, const shared_embedding& sinusoidal) {
  side s;
  if (is_first_stage(share)) {
    s.embed = {.words = std::move(words), .scale = c.embedding.scale, .positions = sinusoidal};
    if (c.positions.learned) s.embed.positions = load_positions(load, shape.at + "positions", c);
    if (c.embedding_norm) s.embed.norm = load.norm(shape.at + "embedding_norm", c);
  }
  s.layers = stack(load, c, shape, share);
  return s;
}

}  // namespace

std::unique_ptr<network> build_encoder_decoder(const model_config& config, const weight_match& match,
                                               const build_options& options) {
  weight_loader load(match, options);
  const io::rank_share& share = options.share;
  const shared_embedding words = load_words(load, config, share);
  shared_embedding source_words = words, sinusoidal;
  if (is_first_stage(share)) {
    if (!config.embedding.shared) source_words = std::make_shared<nn::embedding>(load.embedding("encoder.embedding"));
    if (config.positions.sinusoidal)
      sinusoidal =
          std::make_shared<nn::embedding>(sinusoidal_positions(load, config.positions.max, config.hidden_size));
  }
  network_parts parts;
  side encoder = load_side(load, config, encoder_shape(config), share, source_words, sinusoidal);
  if (config.is_encoder_decoder) {
    parts.encoder = std::move(encoder);
    parts.main = load_side(load, config, decoder_shape(config), share, words, sinusoidal);
  } else {
    parts.main = std::move(encoder);
  }
  if (is_last_stage(share)) parts.head = load_language_head(load, config, share, words);
  parts.weight_bytes = load.bytes();
  return std::make_unique<network>(config, share, std::move(parts));
}

}  // namespace ft::arch
