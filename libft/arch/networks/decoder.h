// The recipe that all decoder-only families share. Their files map configurations and name weights; the configuration
// then says which norms, positions and residuals there are.
//
// The weights it asks for, by libft's own names ("layers.3." before those of a layer):
//   embedding, positions, embedding_projection (OPT-350m), embedding_norm (BLOOM)
//   attention_norm, attention.{query, key, value, output, query_norm, key_norm}, attention_post_norm
//   feed_forward_norm, feed_forward.{gate, up, down}, feed_forward_post_norm
//   norm, output_projection (OPT-350m), output
#pragma once

#include <memory>

#include "arch/family.h"

namespace ft::arch {

std::unique_ptr<network> build_decoder(const model_config& config, const weight_match& match,
                                       const build_options& options);

}  // namespace ft::arch
