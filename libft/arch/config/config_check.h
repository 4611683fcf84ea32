// What a configuration must hold whoever wrote it: the recipes divide by its numbers, index with them, and make vectors
// of their size. A manifest may say anything.
#pragma once

#include <string>

#include "arch/config/config.h"

namespace ft::arch {

// Throws ft::error (FT_ERROR_CHECKPOINT) naming `file` and what cannot be.
void check_config(const model_config& config, const std::string& file);

}  // namespace ft::arch
