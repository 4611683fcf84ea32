#include "arch/networks/stack.h"

#include <array>
#include <cmath>

#include "arch/networks/positions.h"
#include "arch/weights/weight_loader.h"
#include "arch/weights/weight_share.h"

namespace ft::arch {
namespace {

using context = nn::attention::context;

constexpr size_t most_rotary_tables = 2;  // Gemma 3's, for full and for sliding attention

layer_config layer_of(const stack_config& config, int64_t index) {
  return config.layers.empty() ? layer_config() : config.layers[static_cast<size_t>(index)];
}

}  // namespace

stack::stack(weight_loader& load, const stack_config& config, const stack_traits& traits, const io::rank_share& share) {
  const positions_config& positions = config.positions;
  FT_CHECK(positions.rotary.size() <= most_rotary_tables);
  const part_of heads = heads_of(share, config.attention.num_heads), own = layers_of(share, config.num_layers);
  for (const rotary_config& rotary : positions.rotary) rotary_.push_back(load.rotary(rotary));
  if (!positions.alibi_slopes.empty())
    alibi_slopes_ =
        load.constants({positions.alibi_slopes.begin() + heads.begin, positions.alibi_slopes.begin() + heads.end});
  if (positions.relative_buckets)
    relative_bias_ =
        load_relative_bias(load, traits.at + "relative_bias.weight", heads.count(), !traits.causal, positions);
  for (int64_t i = own.begin; i < own.end; ++i) rotary_of_.push_back(layer_of(config, i).rotary);
  layers_.resize(static_cast<size_t>(own.count()));
  load.for_each_layer(own.count(), [&](int64_t i) {
    layers_[static_cast<size_t>(i)] = load_layer(load, config, traits, share, own.begin + i);
  });
  if (config.final_norm && share.pipeline_stage + 1 == share.pipeline_parallel)
    norm_ = load.norm(traits.at + "norm", config, config.hidden_size);
}

layer stack::load_layer(weight_loader& load, const stack_config& c, const stack_traits& traits,
                        const io::rank_share& share, int64_t index) const {
  const std::string at = cat(traits.at, "layers.", index, ".");
  const layer_config own = layer_of(c, index);
  const attention_config& attention = c.attention;
  const int64_t heads = heads_of(share, attention.num_heads).count();
  const float scale = attention.scale != 0 ? attention.scale : 1 / std::sqrt(static_cast<float>(attention.head_dim));
  const auto norm = [&](const char* name) { return load.norm(at + name, c, c.hidden_size); };
  layer l{.kind = c.block};
  l.attention_norm = norm("attention_norm");
  l.attention = {.query_key_value = load.linear({at + "attention.query", at + "attention.key", at + "attention.value"}),
                 .output = load.linear({at + "attention.output"}),
                 .num_heads = heads,
                 .num_kv_heads = kv_heads_of(share, attention).count(),
                 .head_dim = attention.head_dim,
                 .causal = traits.causal,
                 .options = {.scale = scale * own.attention_scale,
                             .softcap = attention.softcap,
                             .window = own.window,
                             .alibi_slopes = alibi_slopes_.values(),
                             .relative_bias = relative_bias_.view}};
  if (attention.query_key_norm) {
    l.attention.query_norm = load.norm(at + "attention.query_norm", c, attention.head_dim);
    l.attention.key_norm = load.norm(at + "attention.key_norm", c, attention.head_dim);
  }
  if (traits.cross) {
    l.cross_norm = norm("cross_norm");
    l.cross = {.query = load.linear({at + "cross.query"}),
               .key_value = load.linear({at + "cross.key", at + "cross.value"}),
               .output = load.linear({at + "cross.output"}),
               .num_heads = heads,
               .head_dim = attention.head_dim,
               .options = {.scale = scale}};
  }
  if (!c.shared_norm) l.mlp_norm = norm("feed_forward_norm");
  if (c.block == block_kind::sandwich) {
    l.attention_post_norm = norm("attention_post_norm");
    l.mlp_post_norm = norm("feed_forward_post_norm");
  }
  const std::string gate = at + "feed_forward.gate", up = at + "feed_forward.up";
  l.mlp = {.kind = c.mlp.kind,
           .up = c.mlp.gated() ? load.linear({gate, up}) : load.linear({up}),
           .down = load.linear({at + "feed_forward.down"}),
           .activation = c.mlp.activation};
  return l;
}

void stack::forward(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) const {
  std::array<context, most_rotary_tables> contexts;  // no vector: a step allocates nothing
  for (size_t i = 0; i < rotary_.size(); ++i)
    contexts[i] = {.rotary_table = rotary_[i].table(run, batch.positions), .style = rotary_[i].style};
  for (size_t i = 0; i < layers_.size() && !run.stops(); ++i) {
    context context = contexts[static_cast<size_t>(rotary_of_[i])];
    if (batch.cache) context.cache = &(*batch.cache)[i];
    layers_[i].forward(run, batch, context, hidden);
  }
}

void stack::finish(nn::run& run, const tensor& hidden) const {
  if (norm_) norm_.forward(run, hidden, hidden);
}

void stack::keep_cross(nn::run& run, const tensor& states, const tensor& slots,
                       const std::vector<kv_pages>& cache) const {
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i].cross.keep(run, states, slots, cache[i]);
}

}  // namespace ft::arch
