#include "arch/networks/encoder_decoder.h"

#include "arch/networks/positions.h"
#include "arch/networks/recipe.h"
#include "arch/weights/weight_loader.h"

namespace ft::arch {
namespace {

using shared_embedding = std::shared_ptr<const nn::embedding>;

// Sinusoidal positions are computed, and the same for both sides.
side load_side(weight_loader& load, const model_config& model, const stack_config& c, const stack_traits& traits,
               const io::rank_share& share, shared_embedding words, const shared_embedding& sinusoidal) {
  side s;
  if (is_first_stage(share)) {
    s.embed = {.words = std::move(words), .scale = model.embedding.scale, .positions = sinusoidal};
    if (c.positions.learned) s.embed.positions = load_positions(load, traits.at + "positions", c.positions);
    if (c.embedding_norm) s.embed.norm = load.norm(traits.at + "embedding_norm", c);
  }
  s.layers = stack(load, c, traits, share);
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
  side encoder = load_side(load, config, config.encoder, {.at = "encoder."}, share, source_words, sinusoidal);
  if (config.is_encoder_decoder) {
    parts.encoder = std::move(encoder);
    parts.main =
        load_side(load, config, config, {.at = "decoder.", .causal = true, .cross = true}, share, words, sinusoidal);
  } else {
    parts.main = std::move(encoder);
  }
  if (is_last_stage(share)) parts.head = load_language_head(load, config, share, words);
  parts.weight_bytes = load.bytes();
  return std::make_unique<network>(config, share, std::move(parts));
}

}  // namespace ft::arch
