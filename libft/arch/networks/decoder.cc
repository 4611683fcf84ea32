#include "arch/networks/decoder.h"

#include "arch/networks/recipe.h"
#include "arch/weights/weight_loader.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

// Transformers holds the factor in the weights' dtype.
float rounded_to(dtype compute, float factor) {
  if (compute == dtype::bf16) return bf16_to_f32(f32_to_bf16(factor));
  if (compute == dtype::f16) return f16_to_f32(f32_to_f16(factor));
  return factor;
}

embedder load_embedder(weight_loader& load, const model_config& config, dtype compute,
                       std::shared_ptr<const nn::embedding> words) {
  embedder e{.words = std::move(words), .scale = rounded_to(compute, config.embedding.scale)};
  if (config.projects_embedding()) e.projection = load.linear({"embedding_projection"});
  if (config.positions.learned) e.positions = load_positions(load, "positions", config.positions);
  if (config.embedding_norm) e.norm = load.norm("embedding_norm", config, config.hidden_size);
  return e;
}

}  // namespace

std::unique_ptr<network> build_decoder(const model_config& config, const weight_match& match,
                                       const build_options& options) {
  weight_loader load(match, options);
  const io::rank_share& share = options.share;
  network_parts parts;
  const std::shared_ptr<const nn::embedding> words = load_words(load, config, share);
  if (is_first_stage(share)) parts.main.embed = load_embedder(load, config, options.compute, words);
  parts.main.layers = stack(load, config, {.causal = true}, share);
  if (is_last_stage(share) && config.projects_embedding()) parts.main.projection = load.linear({"output_projection"});
  if (is_last_stage(share)) parts.head = load_language_head(load, config, share, words);
  parts.weight_bytes = load.bytes();
  return std::make_unique<network>(config, share, std::move(parts));
}

}  // namespace ft::arch
