#include "arch/weights/weight_share.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "core/status.h"

namespace ft::arch {
namespace {

// The layer that a weight belongs to, and its stack: libft's names are "layers.<n>.rest" or "<stack>.layers.<n>.rest".
struct layer_name {
  std::string_view stack;
  int64_t layer = 0;
};

std::optional<layer_name> layer_of(std::string_view name) {
  constexpr std::string_view word = "layers.";
  const size_t at = name.find(word);
  if (at == name.npos || (at > 0 && name[at - 1] != '.')) return std::nullopt;
  layer_name found{name.substr(0, at)};
  const char* digits = name.data() + at + word.size();
  if (std::from_chars(digits, name.data() + name.size(), found.layer).ec != std::errc()) return std::nullopt;
  return found;
}

}  // namespace

void check_ranks(const model_config& config, int tensor_parallel, int pipeline_parallel) {
  for (const int64_t heads :
       {config.attention.num_heads, config.attention.num_kv_heads, config.encoder.attention.num_heads})
    if (heads % tensor_parallel != 0)
      fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", tensor_parallel, ", which does not divide the model's ",
           heads, " heads");
  if (pipeline_parallel > config.num_layers)
    fail(FT_ERROR_INVALID_ARGUMENT, "pipeline_parallel is ", pipeline_parallel, ", but there are ", config.num_layers,
         " layers");
}

std::vector<std::optional<int>> stages_of(const weight_table& table, int pipeline_parallel) {
  std::map<std::string_view, int64_t> layers;  // of each stack
  for (const weight_spec& spec : table)
    if (const auto at = layer_of(spec.name)) layers[at->stack] = std::max(layers[at->stack], at->layer + 1);
  std::vector<std::optional<int>> stages;
  for (const weight_spec& spec : table) {
    stages.emplace_back();
    if (const auto at = layer_of(spec.name); at && pipeline_parallel > 1)
      stages.back() = static_cast<int>(at->layer * pipeline_parallel / layers[at->stack]);
  }
  return stages;
}

int pieces_for(const weight_spec& spec, int ranks) {
  if (ranks == 1 || spec.shard == shard_axis::none) return 1;
  const int64_t length = spec.shape[spec.split_axis()];
  if (length % ranks == 0) return ranks;
  // A rank finds its rows of a vocabulary that cannot be shared out evenly in the file of all.
  if (spec.shard == shard_axis::vocabulary) return 1;
  fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", ranks, ", which does not divide the ", length,
       spec.split_axis() == 1 ? " inputs of " : " outputs of ", spec.name);
}

void take_share(weight_table& table, const model_config& config, const io::rank_share& share) {
  if (share.tensor_parallel == 1 && share.pipeline_parallel == 1) return;
  check_ranks(config, share.tensor_parallel, share.pipeline_parallel);
  const std::vector<std::optional<int>> stages = stages_of(table, share.pipeline_parallel);
  weight_table own;
  for (size_t i = 0; i < table.size(); ++i) {
    if (stages[i].value_or(share.pipeline_stage) != share.pipeline_stage) continue;
    pieces_for(table[i], share.tensor_parallel);
    if (table[i].shard != shard_axis::none) table[i].share = {share.tensor_rank, share.tensor_parallel};
    own.push_back(std::move(table[i]));
  }
  table = std::move(own);
}

}  // namespace ft::arch
