#include "arch/weights/weight_share.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>
#include <unordered_map>
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

part_of kv_heads_of(const io::rank_share& share, const attention_config& attention) {
  const int64_t readers = attention.num_heads / attention.num_kv_heads;  // of each
  const part_of heads = heads_of(share, attention.num_heads);
  return {heads.begin / readers, (heads.end + readers - 1) / readers};
}

namespace {

// Whether all ranks have as many heads, and each of a rank's key and value heads as many readers there.
bool can_share(const attention_config& attention, int ranks) {
  if (attention.num_heads % ranks != 0) return false;
  const int64_t readers = attention.num_heads / attention.num_kv_heads;
  for (int r = 0; r < ranks; ++r) {
    const io::rank_share share{.tensor_rank = r, .tensor_parallel = ranks};
    const part_of heads = heads_of(share, attention.num_heads), own = kv_heads_of(share, attention);
    if (heads.count() % own.count() != 0) return false;
    for (int64_t head = heads.begin; head < heads.end; ++head)
      if (head / readers - own.begin != (head - heads.begin) / (heads.count() / own.count())) return false;
  }
  return true;
}

bool can_share(const model_config& config, int ranks) {
  return can_share(config.attention, ranks) &&
         (!config.is_encoder_decoder || can_share(config.encoder.attention, ranks));
}

void check_stages(const model_config& config, int pipeline_parallel) {
  if (pipeline_parallel > config.num_layers)
    fail(FT_ERROR_INVALID_ARGUMENT, "pipeline_parallel is ", pipeline_parallel, ", but there are ", config.num_layers,
         " layers");
}

}  // namespace

void check_ranks(const model_config& config, int tensor_parallel, int pipeline_parallel) {
  if (!can_share(config, tensor_parallel)) {
    const int64_t heads = config.attention.num_heads, kv_heads = config.attention.num_kv_heads;
    int below = tensor_parallel - 1, above = tensor_parallel + 1;
    while (!can_share(config, below)) --below;
    while (above <= heads && !can_share(config, above)) ++above;
    fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", tensor_parallel, ", by which the model's ", heads,
         " heads that read ", kv_heads, " of keys and values cannot be shared out; ",
         above <= heads ? cat("the nearest that can are ", below, " and ", above)
                        : cat("the nearest that can is ", below));
  }
  check_stages(config, pipeline_parallel);
}

void check_rank_files(const model_config& config, int tensor_parallel, int pipeline_parallel) {
  for (const int64_t heads :
       {config.attention.num_heads, config.attention.num_kv_heads, config.encoder.attention.num_heads})
    if (heads % tensor_parallel != 0)
      fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", tensor_parallel, ", which does not divide the model's ",
           heads, " heads");
  check_stages(config, pipeline_parallel);
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

namespace {

// How many elements of a feed-forward go together: what its last matrix's format codes together, and, where it cannot
// be shared out evenly, as many as kernels like.
int64_t unit_of(const weight_spec& down, const io::checkpoint& source, int ranks) {
  const int64_t length = down.shape[down.split_axis()];
  for (const weight_source& from : down.sources)
    for (const std::string& piece : from.pieces)
      if (const io::stored_tensor* stored = source.find(piece))
        if (const weight_format* format = find_weight_format(stored->data.type); format && format->column_unit > 1)
          return format->column_unit;
  if (length % ranks == 0) return 1;
  for (int64_t unit : {32, 8})
    if (length % unit == 0 && length / unit >= ranks) return unit;
  return 1;
}

class share_taker {
 public:
  share_taker(const weight_table& table, const model_config& config, const io::checkpoint& source)
      : config_(config), share_(source.share()) {
    for (const weight_spec& spec : table)
      if (const std::string_view name = spec.name; name.ends_with("feed_forward.down.weight"))
        units_[feed_forward_of(name)] = unit_of(spec, source, share_.tensor_parallel);
  }

  part_of of(const weight_spec& spec) const {
    const int64_t length = spec.shape[spec.split_axis()];
    if (spec.shard == shard_axis::vocabulary) return vocabulary_of(share_.tensor_rank, share_.tensor_parallel, length);
    const std::string_view name = spec.name;
    const auto is_of = [&](std::string_view part) { return name.find(part) != name.npos; };
    if (is_of("attention.key.") || is_of("attention.value.") || is_of("cross.key.") || is_of("cross.value.")) {
      const attention_config& attention = name.starts_with("encoder.") ? config_.encoder.attention : config_.attention;
      const part_of heads = kv_heads_of(share_, attention);
      const int64_t width = length / attention.num_kv_heads;
      return {heads.begin * width, heads.end * width};
    }
    const auto unit = units_.find(feed_forward_of(name));
    return evenly(length, unit == units_.end() ? 1 : unit->second);
  }

 private:
  // What the names of a feed-forward's weights begin with; of other weights the whole name.
  static std::string feed_forward_of(std::string_view name) {
    return std::string(name.substr(0, name.find("feed_forward.")));
  }

  // In whole units; of what is left behind the last, the last rank has it.
  part_of evenly(int64_t length, int64_t unit) const {
    const int64_t units = length / unit, ranks = share_.tensor_parallel;
    if (units < ranks)
      fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel is ", ranks, ", but a feed-forward of ", length,
           ", whose format codes ", unit, " elements together, can be shared by ", std::max<int64_t>(1, units),
           " at most; give the model another dtype first, with `pyft convert`");
    const auto at = [&](int64_t rank) { return rank == ranks ? length : units * rank / ranks * unit; };
    return {at(share_.tensor_rank), at(share_.tensor_rank + 1)};
  }

  const model_config& config_;
  const io::rank_share share_;
  std::unordered_map<std::string, int64_t> units_;  // of each layer's, by feed_forward_of()
};

}  // namespace

void take_share(weight_table& table, const model_config& config, const io::checkpoint& source) {
  const io::rank_share& share = source.share();
  if (share.tensor_parallel == 1 && share.pipeline_parallel == 1) return;
  check_ranks(config, share.tensor_parallel, share.pipeline_parallel);
  const std::vector<std::optional<int>> stages = stages_of(table, share.pipeline_parallel);
  const std::unordered_set<std::string> added_once = biases_of_sums(table);
  const share_taker taker(table, config, source);
  weight_table own;
  for (size_t i = 0; i < table.size(); ++i) {
    const bool here =
        stages[i] ? *stages[i] == share.pipeline_stage : has_stage(stages_with_weight(table[i].name, config), share);
    if (!here || (share.tensor_rank > 0 && added_once.contains(table[i].name))) continue;
    if (share.tensor_parallel > 1 && table[i].shard != shard_axis::none) table[i].share = taker.of(table[i]);
    own.push_back(std::move(table[i]));
  }
  table = std::move(own);
}

}  // namespace ft::arch
