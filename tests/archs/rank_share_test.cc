// A rank's share of the weights: what its own files of a converted folder hold and what is cut for it out of whole
// weights are the same to the bit, for every family, and no other rank's file is opened for it.
#include <algorithm>
#include <fstream>
#include <random>
#include <set>

#include "arch/convert.h"
#include "arch/weights/weight_share.h"
#include "arch/weights/weight_view.h"
#include "archs/model_fixture.h"
#include "archs/tiny_configs.h"
#include "check.h"
#include "folder.h"
#include "io/formats/manifest.h"
#include "ops/gguf_blocks.h"

using namespace ft;
using io::rank_share;
using test::checkpoint_builder;
using test::folder;

namespace {

// Weights by name, with their shapes, as they go to the device.
struct placed {
  int64_t rows = 0, columns = 0;
  std::vector<char> bytes;
  bool operator==(const placed&) const = default;
};
using placed_weights = std::map<std::string, placed>;

placed_weights weights_for(const std::string& source, const rank_share& share) {
  const auto opened = io::checkpoint::open(source, share);
  const arch::weight_table table = arch::weights_of(arch::config_of(*opened), *opened);
  const arch::weight_match match = arch::match(table, *opened);
  arch::require_complete(match, *opened);
  placed_weights found;
  for (const arch::weight_match::entry& e : match.entries) {
    if (!e) continue;
    const arch::weight_view view = arch::view_of(e);
    placed& p = found[e.spec->name];
    p = {view.rows, view.columns, std::vector<char>(view.bytes())};
    arch::gather(view, p.bytes.data());
  }
  return found;
}

// The files below `path` that this process has mapped.
std::set<std::string> mapped_below(const std::string& path) {
  std::set<std::string> names;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (const size_t at = line.find(path + "/"); at != line.npos) names.insert(line.substr(at + path.size() + 1));
  return names;
}

std::set<std::string> files_of(const rank_share& share, const std::string& path) {
  std::set<std::string> names;
  for (const std::optional<int> rank : {std::optional<int>(), std::optional<int>(share.tensor_rank)})
    for (const std::optional<int> stage : {std::optional<int>(), std::optional<int>(share.pipeline_stage)})
      if (const std::string name = io::weights_file(rank, stage); std::filesystem::exists(path + "/" + name))
        names.insert(name);
  return names;
}

std::vector<rank_share> shares_of(int tensor_parallel, int pipeline_parallel) {
  std::vector<rank_share> shares;
  for (int rank = 0; rank < tensor_parallel; ++rank)
    for (int stage = 0; stage < pipeline_parallel; ++stage)
      shares.push_back({rank, tensor_parallel, stage, pipeline_parallel});
  return shares;
}

// The pieces of all tensor ranks of the weight's stage put together again.
placed joined(const std::vector<placed_weights>& ranks, const std::string& name, bool by_columns, int64_t bytes) {
  placed whole{by_columns ? ranks[0].at(name).rows : 0, by_columns ? 0 : ranks[0].at(name).columns, {}};
  for (const placed_weights& rank : ranks)
    (by_columns ? whole.columns : whole.rows) += by_columns ? rank.at(name).columns : rank.at(name).rows;
  const int64_t rows = by_columns ? whole.rows : 1;
  for (int64_t row = 0; row < rows; ++row)
    for (const placed_weights& rank : ranks) {
      const placed& p = rank.at(name);
      const auto begin = p.bytes.begin() + row * p.columns * bytes;
      whole.bytes.insert(whole.bytes.end(), by_columns ? begin : p.bytes.begin(),
                         by_columns ? begin + p.columns * bytes : p.bytes.end());
    }
  return whole;
}

// The stages that compute with a weight, as text.
std::string stages_with(const std::string& name, const arch::model_config& config, int pipeline_parallel) {
  const std::string last = cat(pipeline_parallel - 1), both = pipeline_parallel > 1 ? "0 " + last : last;
  const auto is = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (const size_t at = name.find("layers."); at != name.npos) {
    const int64_t layers = name.starts_with("encoder.") ? config.encoder.num_layers : config.num_layers;
    return cat(std::stoll(name.substr(at + 7)) * pipeline_parallel / layers);
  }
  if (name == "embedding.weight" && config.embedding.tied) return both;
  if (is("relative_bias")) return both;
  return is("embedding") || is("positions") || is("token_types") ? "0" : last;
}

std::string with_four_key_heads(std::string config) {
  const std::string two = R"("num_key_value_heads": 2)";
  if (const size_t at = config.find(two); at != config.npos) config[at + two.size() - 1] = '4';
  return config;
}

void check_split(const std::string& config, int tensor_parallel, int pipeline_parallel) {
  folder whole, out;
  checkpoint_builder weights(config);
  weights.add_all();
  weights.write(whole.path());
  const std::string split = out.path("split");
  arch::convert(whole.path(), split, {.tensor_parallel = tensor_parallel, .pipeline_parallel = pipeline_parallel});

  const placed_weights all = weights_for(whole.path(), {});
  const auto source = io::checkpoint::open(whole.path());
  const arch::weight_table table = arch::weights_of(arch::config_of(*source), *source);
  const std::string what = cat(config, " over ", tensor_parallel, " x ", pipeline_parallel);
  std::vector<std::vector<placed_weights>> by_stage(static_cast<size_t>(pipeline_parallel));
  size_t layered = 0, everywhere = 0;
  for (const rank_share& share : shares_of(tensor_parallel, pipeline_parallel)) {
    const auto opened = io::checkpoint::open(split, share);
    CHECK_MSG(mapped_below(split) == files_of(share, split), what);
    CHECK_MSG(mapped_below(split).size() <= 4, what);
    placed_weights own = weights_for(split, share);
    CHECK_MSG(own == weights_for(whole.path(), share), what);
    if (share.tensor_rank == 0) layered += own.size();
    by_stage[static_cast<size_t>(share.pipeline_stage)].push_back(std::move(own));
  }
  for (const arch::weight_spec& spec : table) {
    if (!all.contains(spec.name)) continue;  // optional, and not there
    std::string stages;
    for (size_t stage = 0; stage < by_stage.size(); ++stage) {
      const auto& ranks = by_stage[stage];
      if (!ranks[0].contains(spec.name)) continue;
      stages += cat(stages.empty() ? "" : " ", stage);
      const bool split_up = spec.shard != arch::shard_axis::none;
      CHECK_MSG((split_up ? joined(ranks, spec.name, spec.split_axis() == 1, sizeof(float)) : ranks[0].at(spec.name)) ==
                    all.at(spec.name),
                what, " ", spec.name);
    }
    CHECK_MSG(stages == stages_with(spec.name, arch::config_of(*source), pipeline_parallel), what, " ", spec.name,
              " is on ", stages);
    everywhere += static_cast<size_t>(std::ranges::count(stages, ' ')) + 1;
    // Added once to the ranks' sum.
    if (spec.name.ends_with("output.bias") && spec.name.find("layers.") != std::string::npos)
      for (const auto& ranks : by_stage)
        for (size_t rank = 1; rank < ranks.size(); ++rank) CHECK_MSG(!ranks[rank].contains(spec.name), what);
  }
  CHECK_EQ(layered, everywhere);
  // Converted for other ranks, the folder still gives every rank its share.
  const rank_share other{.pipeline_parallel = pipeline_parallel == 1 ? 2 : 1};
  CHECK_MSG(weights_for(split, other) == weights_for(whole.path(), other), what);
}

}  // namespace

TEST(a_ranks_own_files_hold_what_would_be_cut_for_it) {
  std::vector<std::string> configs = test::decoders;
  configs.insert(configs.end(), test::encoder_decoders.begin(), test::encoder_decoders.end());
  configs.push_back(test::encoder("bert", "BertForMaskedLM", R"(, "tie_word_embeddings": false)"));
  configs.push_back(test::encoder("roberta", "RobertaForSequenceClassification"));
  configs.push_back(test::encoder("distilbert", "DistilBertModel"));
  for (const std::string& given : configs) {
    const std::string config = with_four_key_heads(given);
    const bool of_three = config.find(R"("n_head": 3)") != config.npos;
    for (int tensor_parallel : of_three ? std::vector<int>{1, 3} : std::vector<int>{1, 2, 4})
      for (int pipeline_parallel : {1, 2}) check_split(config, tensor_parallel, pipeline_parallel);
  }
}

// 66 rows for 4 ranks: left whole in the file of all, where each rank finds its own, and none is lost.
TEST(a_vocabulary_that_cannot_be_dealt_out_evenly_is_cut_all_the_same) {
  std::string config = with_four_key_heads(test::decoder("llama", ""));
  config.replace(config.find(": 64"), 4, ": 66");
  check_split(config, 4, 2);
  folder f;
  checkpoint_builder weights(config);
  weights.add_all();
  weights.write(f.path());
  std::vector<int64_t> rows;
  for (const rank_share& share : shares_of(4, 1)) rows.push_back(weights_for(f.path(), share).at("output.weight").rows);
  CHECK(rows == (std::vector<int64_t>{16, 17, 16, 17}));
}

TEST(impossible_shares_are_refused) {
  folder f;
  checkpoint_builder weights(test::decoder("llama", ""));
  weights.add_all();
  weights.write(f.path());
  const auto refused = [&](const char* text, const rank_share& share) {
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, text, weights_for(f.path(), share));
  };
  refused("tensor_rank is 2 and tensor_parallel 2", {.tensor_rank = 2, .tensor_parallel = 2});
  refused("tensor_rank is -1", {.tensor_rank = -1, .tensor_parallel = 2});
  refused("tensor_parallel 0", {.tensor_parallel = 0});
  refused("pipeline_stage is 3 and pipeline_parallel 3", {.pipeline_stage = 3, .pipeline_parallel = 3});
  refused("4 heads that read 2 of keys and values cannot be shared out; the nearest that can are 2 and 4",
          {.tensor_parallel = 3});
  refused("cannot be shared out; the nearest that can is 4", {.tensor_parallel = 8});
  refused("pipeline_parallel is 4, but there are 3 layers", {.pipeline_parallel = 4});
}

// Two rows of eight blocks can be cut by columns between blocks only.
TEST(blocks_are_not_cut) {
  arch::weight_spec spec{.name = "w", .shape = {2, 256}, .shard = arch::shard_axis::row, .may_quantise = true};
  spec.sources = {"w"};
  std::vector<char> bytes(bytes_of(dtype::q8_0, 2 * 256));
  std::mt19937 random(1);
  for (char& b : bytes) b = static_cast<char>(random() & 0x3f);
  const uint64_t shape[] = {2, 256};
  const auto source = io::checkpoint::from_parts(
      "made", io::parse_json("{}", "made/config.json"),
      {io::view_stored("w", dtype::q8_0, shape, io::mapped_file::wrap(bytes.data(), bytes.size(), "memory"), 0)});
  const auto cut = [&](int index, int count) {
    spec.share = {256 * index / count, 256 * (index + 1) / count};
    const arch::weight_table table = {spec};
    const arch::weight_match match = arch::match(table, *source);
    arch::require_complete(match, *source);
    const arch::weight_view view = arch::view_of(match.entries[0]);
    std::vector<char> gathered(view.bytes());
    arch::gather(view, gathered.data());
    return gathered;
  };
  const size_t row = bytes.size() / 2, half = row / 2;
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<char> piece = cut(static_cast<int>(i), 2);
    CHECK_EQ(piece.size(), 2 * half);
    for (size_t r = 0; r < 2; ++r)
      CHECK(std::equal(piece.begin() + static_cast<std::ptrdiff_t>(r * half),
                       piece.begin() + static_cast<std::ptrdiff_t>((r + 1) * half),
                       bytes.begin() + static_cast<std::ptrdiff_t>(r * row + i * half)));
  }
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "in the midst of a block, at 0 and 16 of 256", cut(0, 16));
}
