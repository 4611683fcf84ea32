// The transformer of two sides (arXiv:1706.03762): one recipe, driven by the configuration, for every family whose
// encoder reads a text that its decoder answers, and for such an encoder alone. The families write their own config
// maps and weight tables, the latter with the names that encoder_decoder.cc loads.
#pragma once

#include "arch/family.h"

namespace ft::arch {

std::unique_ptr<network> build_encoder_decoder(const model_config& config, const weight_match& match,
                                               const build_options& options);

}  // namespace ft::arch
