// How weights are dealt out to ranks: layers to the stages of a pipeline, and each weight along its shard axis to the
// ranks of tensor parallelism. Who writes a rank's files, who reads them, and who cuts the same out of whole weights
// all ask here.
#pragma once

#include <optional>
#include <vector>

#include "arch/config/config.h"
#include "arch/weights/weight_table.h"
#include "io/rank_share.h"

namespace ft::arch {

// Throws ft::error (FT_ERROR_INVALID_ARGUMENT) when so many ranks cannot share the heads, or the stages the layers.
void check_ranks(const model_config& config, int tensor_parallel, int pipeline_parallel);

// Of each weight, the stage that has it; nothing: every stage has it.
std::vector<std::optional<int>> stages_of(const weight_table& table, int pipeline_parallel);

// Into how many pieces the files of `ranks` ranks hold a weight: one a rank, or one for all of them. Throws ft::error
// (FT_ERROR_INVALID_ARGUMENT) when it cannot be cut.
int pieces_for(const weight_spec& spec, int ranks);

// Leaves the rows of the rank's stage, each with the rank's piece of its weight.
void take_share(weight_table& table, const model_config& config, const io::rank_share& share);

}  // namespace ft::arch
