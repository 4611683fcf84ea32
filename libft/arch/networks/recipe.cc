#include "arch/networks/recipe.h"

#include "arch/weights/weight_loader.h"

namespace ft::arch {
namespace {

bool is_language_model(const model_config& config) {
  return config.head.kind == head_kind::causal_lm || config.head.kind == head_kind::masked_lm;
}

}  // namespace

std::shared_ptr<const nn::embedding> load_words(weight_loader& load, const model_config& config,
                                                const io::rank_share& share) {
  const bool tied = config.embedding.tied && is_language_model(config);
  if (!is_first_stage(share) && !(tied && is_last_stage(share))) return nullptr;
  return std::make_shared<nn::embedding>(tied ? load.shared_embedding("embedding") : load.embedding("embedding"));
}

std::shared_ptr<const nn::embedding> load_positions(weight_loader& load, const std::string& name,
                                                    const positions_config& positions) {
  const auto table = std::make_shared<nn::embedding>(load.embedding(name));
  if (positions.offset) table->skip_rows(positions.offset);
  return table;
}

head load_language_head(weight_loader& load, const model_config& config, const io::rank_share& share,
                        const std::shared_ptr<const nn::embedding>& words) {
  head h;
  if (!is_language_model(config)) return h;
  h.output = config.embedding.tied ? load.tied_linear(*words, "output") : load.linear({"output"});
  h.scale = config.head.input_scale;
  h.softcap = config.head.logits_softcap;
  h.share_out(config.tokens.vocab_size, share);
  return h;
}

}  // namespace ft::arch
