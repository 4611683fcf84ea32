// How a model is dealt out to ranks: layers to the stages of a pipeline, and each weight along its shard axis to the
// ranks of tensor parallelism. Who writes a rank's files, who reads them, who cuts the same out of whole weights and
// who computes with them all ask here.
#pragma once

#include <optional>
#include <vector>

#include "arch/config/config.h"
#include "arch/weights/weight_table.h"
#include "io/checkpoint.h"
#include "io/rank_share.h"

namespace ft::arch {

// Throws ft::error (FT_ERROR_INVALID_ARGUMENT) when so many ranks cannot share the heads, or the stages the layers.
void check_ranks(const model_config& config, int tensor_parallel, int pipeline_parallel);
// The same of ranks' files, which hold each key and value head once.
void check_rank_files(const model_config& config, int tensor_parallel, int pipeline_parallel);

// The layers of a stack that its stage has, of `count`; none where there are fewer layers than stages.
part_of layers_of(const io::rank_share& share, int64_t count);

// The heads that its tensor rank has, of `count`; check_ranks has seen to it that all have as many.
part_of heads_of(const io::rank_share& share, int64_t count);

// The key and value heads that its tensor rank has: those that its query heads read, which other ranks may have, too.
part_of kv_heads_of(const io::rank_share& share, const attention_config& attention);

// The rows of a vocabulary of `size` that a tensor rank has: as many as the others, or one more.
part_of vocabulary_of(int tensor_rank, int tensor_parallel, int64_t size);

// Of each weight, the stage whose files hold it; nothing: the files of all stages do.
std::vector<std::optional<int>> stages_of(const weight_table& table, int pipeline_parallel);

// Into how many pieces the files of `ranks` ranks hold a weight: one a rank, or one for all of them. Throws ft::error
// (FT_ERROR_INVALID_ARGUMENT) when it cannot be cut.
int pieces_for(const weight_spec& spec, int ranks);

// Leaves what the rank computes with, each weight with the rank's part of it: of its stage's layers; on the first
// stage what embeds, on the last what is behind the layers. Attention is cut between heads; a feed-forward between the
// units of the format that `source` stores it in, as evenly as these allow. The bias of a matrix that is cut by its
// inputs is added once to the sum over the ranks: tensor rank 0 has it.
void take_share(weight_table& table, const model_config& config, const io::checkpoint& source);

}  // namespace ft::arch
