#include "arch/config/config_check.h"

#include <type_traits>

#include "arch/config/config_fields.h"
#include "core/status.h"

namespace ft::arch {
namespace {

constexpr int64_t largest = 1 << 30, most_layers = 1 << 14, widest_head = 4096;

// One stack; `whose` is "the configuration", or its encoder.
void check_stack(const stack_config& c, const char* whose, const std::string& file) {
  const auto refuse = [&](const char* what) { fail(FT_ERROR_CHECKPOINT, file, ": ", whose, " has ", what); };
  const attention_config& a = c.attention;
  if (c.hidden_size < 1 || a.num_heads < 1 || a.num_kv_heads < 1 || a.head_dim < 1 || c.mlp.intermediate_size < 1)
    refuse("a size of 0");
  if (c.num_layers > most_layers) refuse("too many layers");
  if (a.num_heads % a.num_kv_heads != 0) refuse("heads that do not share their keys evenly");
  if (a.head_dim > widest_head || a.num_heads > largest / a.head_dim) refuse("heads that are too large");
  if (!c.layers.empty() && c.layers.size() != static_cast<size_t>(c.num_layers))
    refuse("another number of layers than num_layers");
  const positions_config& p = c.positions;
  for (const rotary_config& r : p.rotary)
    if (2 * r.inverse_frequency.size() > static_cast<size_t>(a.head_dim)) refuse("more frequencies than a head turns");
  for (const layer_config& layer : c.layers) {
    if (layer.window < 0) refuse("a negative window");
    if (layer.rotary < 0 || (!p.rotary.empty() && static_cast<size_t>(layer.rotary) >= p.rotary.size()))
      refuse("a layer with frequencies that are not there");
  }
  if (!p.alibi_slopes.empty() && p.alibi_slopes.size() != static_cast<size_t>(a.num_heads))
    refuse("another number of ALiBi slopes than heads");
}

}  // namespace

void check_config(const model_config& c, const std::string& file) {
  constexpr const char* whole = "the configuration";
  const auto refuse = [&](const char* what) { fail(FT_ERROR_CHECKPOINT, file, ": ", whole, " has ", what); };
  visit_values(c, [&](const std::string& path, const auto& field) {
    if constexpr (std::is_same_v<decltype(field), const int64_t&>)
      if (field < 0 || field > largest) fail(FT_ERROR_CHECKPOINT, file, ": '", path, "' is ", field, ", out of range");
  });
  check_stack(c, whole, file);
  if (c.tokens.vocab_size < 1) refuse("a size of 0");
  // Decoders ask their layers' own for each layer.
  if (c.causal && !c.is_encoder_decoder && c.layers.size() != static_cast<size_t>(c.num_layers))
    refuse("another number of layers than num_layers");
  if (c.is_encoder_decoder && c.tokens.encoder_vocab_size < 1) refuse("an encoder without a vocabulary");
  if (c.is_encoder_decoder || c.encoder.num_layers > 0) {
    check_stack(c.encoder, "the configuration's encoder", file);
    if (c.encoder.hidden_size != c.hidden_size) refuse("an encoder of another hidden_size");
  }
  if (c.head.label_names.size() > static_cast<size_t>(c.head.num_labels)) refuse("more names than labels");
}

}  // namespace ft::arch
