// What recipes load alike: embeddings, positions, and the head of a language model.
#pragma once

#include <memory>
#include <string>

#include "arch/family.h"

namespace ft::arch {

class weight_loader;

inline bool is_first_stage(const io::rank_share& share) { return share.pipeline_stage == 0; }
inline bool is_last_stage(const io::rank_share& share) { return share.pipeline_stage + 1 == share.pipeline_parallel; }

// The weight "embedding": packed where an output projection shares it, and null on a stage that needs it for neither.
std::shared_ptr<const nn::embedding> load_words(weight_loader& load, const model_config& config,
                                                const io::rank_share& share);

// A table of learned positions, without the rows before the first one's.
std::shared_ptr<const nn::embedding> load_positions(weight_loader& load, const std::string& name,
                                                    const positions_config& positions);

// The projection onto the vocabulary, by the embedding's matrix where the two are tied, and what scales its input and
// bounds its logits. Empty where the model is none of language.
head load_language_head(weight_loader& load, const model_config& config, const io::rank_share& share,
                        const std::shared_ptr<const nn::embedding>& words);

}  // namespace ft::arch
