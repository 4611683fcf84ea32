#include "arch/weights/weight_share.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>
#include <unordered_set>

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

int stage_of_layer(int64_t layer, int64_t layers, int stages) { return static_cast<int>(layer * stages / layers); }

// Which stages compute with a weight that belongs to no layer.
enum class stages_with : uint8_t { all, first, last, both_ends };

stages_with stages_with_weight(std::string_view name, const model_config& config) {
  const bool language_model = config.head.kind == head_kind::causal_lm || config.head.kind == head_kind::masked_lm;
  if (name == "embedding.weight" && language_model && config.embedding.tied) return stages_with::both_ends;
  for (std::string_view stack : {"encoder.", "decoder."})
    if (name.starts_with(stack)) name.remove_prefix(stack.size());
  const std::string_view part = name.substr(0, name.find('.'));
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, part) != names.end();
  };
  if (is_one_of({"embedding", "positions", "token_types", "embedding_norm", "embedding_projection"}))
    return stages_with::first;
  if (is_one_of({"norm", "output_projection", "pooler", "head", "output"})) return stages_with::last;
  return stages_with::all;
}

bool has_stage(stages_with stages, const io::rank_share& share) {
  const bool first = share.pipeline_stage == 0, last = share.pipeline_stage == share.pipeline_parallel - 1;
  switch (stages) {
    case stages_with::first:
      return first;
    case stages_with::last:
      return last;
    case stages_with::both_ends:
      return first || last;
    case stages_with::all:
      break;
  }
  return true;
}

// The biases of matrices that are cut by their inputs.
std::unordered_set<std::string> biases_of_sums(const weight_table& table) {
  constexpr std::string_view weight = ".weight";
  std::unordered_set<std::string> names;
  for (const weight_spec& spec : table)
    if (spec.shard == shard_axis::row && spec.name.ends_with(weight))
      names.insert(spec.name.substr(0, spec.name.size() - weight.size()) + ".bias");
  return names;
}

}  // namespace

part_of layers_of(const io::rank_share& share, int64_t count) {
  const auto first_of = [&](int64_t stage) {
    return (stage * count + share.pipeline_parallel - 1) / share.pipeline_parallel;
  };
  return {first_of(share.pipeline_stage), first_of(share.pipeline_stage + 1)};
}

part_of heads_of(const io::rank_share& share, int64_t count) {
  const int64_t each = count / share.tensor_parallel;
  return {share.tensor_rank * each, (share.tensor_rank + 1) * each};
}

part_of vocabulary_of(int tensor_rank, int tensor_parallel, int64_t size) {
  return {size * tensor_rank / tensor_parallel, size * (tensor_rank + 1) / tensor_parallel};
}

void check_ranks(const model_config& config, int tensor_parallel, int pipeline_parallel) {
  const std::array all_heads{config.attention.num_heads, config.attention.num_kv_heads,
                             config.encoder.attention.num_heads};
  const auto fits = [&](int ranks) {
    return std::ranges::all_of(all_heads, [&](int64_t heads) { return heads % ranks == 0; });
  };
  for (const int64_t heads : all_heads) {
    if (heads % tensor_parallel == 0) continue;
    int below = tensor_parallel - 1, above = tensor_parallel + 1;
    while (!fits(below)) --below;
    while (above <= all_heads[0] && !fits(above)) ++above;
    fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", tensor_parallel, ", which does not divide the model's ",
         heads, " heads; ", below, above <= all_heads[0] ? cat(" and ", above, " do") : " does");
  }
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
      stages.back() = stage_of_layer(at->layer, layers[at->stack], pipeline_parallel);
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
  const std::unordered_set<std::string> added_once = biases_of_sums(table);
  weight_table own;
  for (size_t i = 0; i < table.size(); ++i) {
    const bool here =
        stages[i] ? *stages[i] == share.pipeline_stage : has_stage(stages_with_weight(table[i].name, config), share);
    if (!here || (share.tensor_rank > 0 && added_once.contains(table[i].name))) continue;
    pieces_for(table[i], share.tensor_parallel);
    if (table[i].shard != shard_axis::none) table[i].share = {share.tensor_rank, share.tensor_parallel};
    own.push_back(std::move(table[i]));
  }
  table = std::move(own);
}

}  // namespace ft::arch
