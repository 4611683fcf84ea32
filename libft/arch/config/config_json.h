// A whole configuration as JSON and back, to the bit: how a manifest keeps it. (model_config::to_json is for people.)
#pragma once

#include "arch/config/config.h"
#include "io/text/json.h"

namespace ft::arch {

io::json_ptr config_to_json(const model_config& config);

// A field that is absent keeps its default, as one that is younger than the manifest does. Throws ft::error
// (FT_ERROR_CHECKPOINT) naming file and key for what has another type, and for sizes that no model can have.
model_config config_from_json(const io::json_reader& reader);

}  // namespace ft::arch
