#include "arch/config/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::arch {
namespace {

void require_supported(const rope_parameters& p, const std::string& where) {
  if (p.type != "default" && p.type != "linear" && p.type != "llama3" && p.type != "yarn")
    fail(FT_ERROR_UNSUPPORTED, where, ": rope scaling '", io::printable(p.type),
         "' is not supported; supported are default, linear, llama3 and yarn");
  const auto positive = [&](const char* key, double value) {
    if (!(value > 0) || !std::isfinite(value))
      fail(FT_ERROR_CHECKPOINT, where, ": ", key, " of the rope parameters is ", value, "; it must be above 0");
  };
  positive("rope_theta", p.theta);
  positive("factor", p.factor);
  if (p.type != "llama3" && p.type != "yarn") return;
  positive("original_max_position_embeddings", p.original_max_positions);
  positive("low_freq_factor", p.low_freq_factor);
  positive("high_freq_factor", p.high_freq_factor);
  positive("beta_fast", p.beta_fast);
  positive("beta_slow", p.beta_slow);
}

// 1 / theta^(2 i / dim)
std::vector<float> plain_frequencies(double theta, int64_t dim) {
  std::vector<float> inverse(static_cast<size_t>(dim / 2));
  for (size_t i = 0; i < inverse.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    inverse[i] = 1.0f / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
  }
  return inverse;
}

// Long waves are slowed down by `factor`, short ones kept, those between go smoothly from one to the other.
void scale_llama3(std::vector<float>& inverse, const rope_parameters& p) {
  const float factor = static_cast<float>(p.factor);
  const float low_wavelength = static_cast<float>(p.original_max_positions / p.low_freq_factor);
  const float high_wavelength = static_cast<float>(p.original_max_positions / p.high_freq_factor);
  const float span = static_cast<float>(p.high_freq_factor - p.low_freq_factor);
  for (float& f : inverse) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / f;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      f /= factor;
      continue;
    }
    const float turns = static_cast<float>(p.original_max_positions) / wavelength;
    const float smooth = (turns - static_cast<float>(p.low_freq_factor)) / span;
    f = (1 - smooth) * f / factor + smooth * f;
  }
}

// The dimension whose wave turns `rotations` times over the original context (arXiv:2309.00071, section 3.2).
double correction_dim(double rotations, int64_t dim, const rope_parameters& p) {
  return static_cast<double>(dim) * std::log(p.original_max_positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(p.theta));
}

void scale_yarn(std::vector<float>& inverse, const rope_parameters& p, int64_t dim) {
  double low = correction_dim(p.beta_fast, dim, p), high = correction_dim(p.beta_slow, dim, p);
  if (p.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;  // no division by zero
  for (size_t i = 0; i < inverse.size(); ++i) {
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1 - std::clamp(ramp, 0.0f, 1.0f);
    const float period = static_cast<float>(std::pow(p.theta, static_cast<float>(2 * i) / static_cast<float>(dim)));
    const float stretched = 1.0f / (static_cast<float>(p.factor) * period);
    inverse[i] = stretched * (1 - kept) + inverse[i] * kept;
  }
}

float yarn_attention_factor(const rope_parameters& p) {
  const auto of_scale = [&](double m) { return p.factor <= 1 ? 1.0 : 0.1 * m * std::log(p.factor) + 1.0; };
  if (p.attention_factor) return static_cast<float>(*p.attention_factor);
  if (p.mscale != 0 && p.mscale_all_dim != 0)
    return static_cast<float>(of_scale(p.mscale) / of_scale(p.mscale_all_dim));
  return static_cast<float>(of_scale(1));
}

void read_scaling(rope_parameters& p, const io::json_reader& given) {
  p.type = given.string("rope_type", given.string("type", "default"));
  p.theta = given.number("rope_theta", p.theta);
  p.original_max_positions = given.number("original_max_position_embeddings", p.original_max_positions);
  if (p.type == "linear" || p.type == "llama3" || given.has("factor")) p.factor = given.number("factor");
  if (p.type == "llama3") {
    p.low_freq_factor = given.number("low_freq_factor");
    p.high_freq_factor = given.number("high_freq_factor");
  }
  if (p.type != "yarn") return;
  p.beta_fast = given.number("beta_fast", p.beta_fast);
  p.beta_slow = given.number("beta_slow", p.beta_slow);
  p.mscale = given.number("mscale", 0);
  p.mscale_all_dim = given.number("mscale_all_dim", 0);
  p.truncate = given.boolean("truncate", true);
  if (given.has("attention_factor")) p.attention_factor = given.number("attention_factor");
}

}  // namespace

rope_parameters read_rope(const io::json_reader& config, std::string_view layer_type, double default_theta,
                          int64_t max_positions) {
  // rope_scaling is read last in transformers and so wins over rope_parameters.
  std::optional<io::json_reader> given = config.object("rope_scaling");
  if (!given) given = config.object("rope_parameters");
  if (given && given->find(layer_type) && given->find(layer_type)->is_object()) given = given->object(layer_type);

  rope_parameters p;
  p.theta = config.number("rope_theta", default_theta);
  p.original_max_positions = static_cast<double>(max_positions);
  if (given) read_scaling(p, *given);
  p.original_max_positions = config.number("original_max_position_embeddings", p.original_max_positions);
  if (p.type == "yarn" && given && !given->has("factor"))
    p.factor = static_cast<double>(max_positions) / p.original_max_positions;
  require_supported(p, config.file());
  return p;
}

rope_parameters read_rope(const io::gguf_metadata& metadata, const std::string& architecture, int64_t max_positions) {
  const std::string prefix = architecture + ".rope.";
  rope_parameters p;
  p.theta = metadata.number(prefix + "freq_base", 10000);
  p.type = metadata.string(prefix + "scaling.type", "none");
  if (p.type == "none") p.type = "default";
  p.factor = metadata.number(prefix + "scaling.factor", 1);
  p.original_max_positions =
      static_cast<double>(metadata.integer(prefix + "scaling.original_context_length", max_positions));
  p.beta_fast = metadata.number(prefix + "scaling.yarn_beta_fast", p.beta_fast);
  p.beta_slow = metadata.number(prefix + "scaling.yarn_beta_slow", p.beta_slow);
  // GGUF keeps a multiplier of YaRN's own factor.
  if (const double multiplier = metadata.number(prefix + "scaling.attn_factor", 1); multiplier != 1 && p.type == "yarn")
    p.attention_factor = multiplier * yarn_attention_factor(p);
  require_supported(p, metadata.file());
  return p;
}

rotary_config make_rotary(const rope_parameters& p, int64_t rotary_dim) {
  rotary_config rotary{
      .inverse_frequency = plain_frequencies(p.theta, rotary_dim), .theta = p.theta, .scaling = p.type};
  if (p.type == "linear")
    for (float& f : rotary.inverse_frequency) f /= static_cast<float>(p.factor);
  if (p.type == "llama3") scale_llama3(rotary.inverse_frequency, p);
  if (p.type == "yarn") {
    scale_yarn(rotary.inverse_frequency, p, rotary_dim);
    rotary.attention_factor = yarn_attention_factor(p);
  }
  return rotary;
}

}  // namespace ft::arch
