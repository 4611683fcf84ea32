// Rotary frequencies against those of Hugging Face transformers 5.23: LlamaRotaryEmbedding(config).inv_freq and
// .attention_scaling, printed with nine digits, of heads of 32 elements and max_position_embeddings 131072.
#include <cmath>

#include "arch/config/rope_scaling.h"
#include "check.h"

using namespace ft;

namespace {

arch::rotary_config rotary_of(const std::string& config_text, const char* layer_type = "full_attention") {
  const io::json_ptr config = io::parse_json(config_text, "config.json");
  return arch::make_rotary(arch::read_rope(io::json_reader(*config, "config.json"), layer_type, 10000, 131072), 32);
}

void check_frequencies(const arch::rotary_config& rotary, const std::vector<float>& expected) {
  CHECK_EQ(rotary.inverse_frequency.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const float error = std::abs(rotary.inverse_frequency[i] - expected[i]) / expected[i];
    CHECK_MSG(error < 3e-7f, "frequency ", i, " is ", rotary.inverse_frequency[i], ", not ", expected[i]);
  }
}

const std::vector<float> plain = {1,
                                  0.562341332f,
                                  0.316227764f,
                                  0.177827939f,
                                  0.100000001f,
                                  0.0562341288f,
                                  0.0316227786f,
                                  0.0177827943f,
                                  0.00999999978f,
                                  0.00562341325f,
                                  0.00316227786f,
                                  0.00177827943f,
                                  0.00100000005f,
                                  0.000562341302f,
                                  0.000316227786f,
                                  0.00017782794f};

}  // namespace

TEST(rope_default_is_the_same_in_old_and_new_keys) {
  check_frequencies(rotary_of(R"({"rope_theta": 10000.0, "rope_scaling": null})"), plain);
  check_frequencies(rotary_of(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})"), plain);
  CHECK_EQ(rotary_of("{}").attention_factor, 1.0f);
}

TEST(rope_linear_divides) {
  std::vector<float> expected;
  for (float f : plain) expected.push_back(f / 4);
  check_frequencies(rotary_of(R"({"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}})"),
                    expected);
}

TEST(rope_llama3_slows_long_waves) {
  check_frequencies(rotary_of(R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})"),
                    {1, 0.440366626f, 0.193922758f, 0.0853971019f, 0.0376060307f, 0.0165604409f, 0.00729266508f,
                     0.00321144611f, 0.000524846022f, 7.78465546e-05f, 3.42810235e-05f, 1.50962178e-05f,
                     6.64786967e-06f, 2.92749974e-06f, 1.28917316e-06f, 5.6770881e-07f});
}

TEST(rope_yarn_interpolates_and_sharpens) {
  const auto rotary = rotary_of(R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
      "original_max_position_embeddings": 32768}})");
  check_frequencies(rotary, {1, 0.562341332f, 0.316227764f, 0.177827939f, 0.100000001f, 0.0562341288f, 0.0316227786f,
                             0.0177827943f, 0.00999999978f, 0.00502090435f, 0.00248464686f, 0.00120668963f,
                             0.000571428565f, 0.000261087029f, 0.000112938491f, 4.44569851e-05f});
  CHECK(std::abs(rotary.attention_factor - 1.138629436f) < 1e-6f);
}

TEST(rope_yarn_reads_its_options) {
  const auto rotary = rotary_of(R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 50000.0, "factor": 40.0,
      "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1.0, "beta_fast": 16.0,
      "beta_slow": 2.0, "truncate": false}})");
  check_frequencies(rotary, {1, 0.508527458f, 0.258600146f, 0.131505266f, 0.0668740347f, 0.0340072773f, 0.0144546898f,
                             0.00456219399f, 0.00090201688f, 5.68550968e-05f, 2.89123745e-05f, 1.47027358e-05f,
                             7.47674403e-06f, 3.80212919e-06f, 1.93348706e-06f, 9.83231075e-07f});
  CHECK(std::abs(rotary.attention_factor - 0.921042355f) < 1e-6f);
  const auto given = rotary_of(R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 1.25}})");
  CHECK_EQ(given.attention_factor, 1.25f);
}

TEST(rope_parameters_may_differ_by_layer_type) {
  const char* config = R"({"rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}})";
  CHECK_EQ(rotary_of(config, "full_attention").theta, 1e6);
  CHECK_EQ(rotary_of(config, "full_attention").inverse_frequency[0], 0.125f);
  check_frequencies(rotary_of(config, "sliding_attention"), plain);
}

TEST(rope_refuses_by_name) {
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "'longrope' is not supported",
              rotary_of(R"({"rope_scaling": {"type": "longrope"}})"));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "'dynamic' is not supported",
              rotary_of(R"({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "factor", rotary_of(R"({"rope_scaling": {"rope_type": "linear"}})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "factor", rotary_of(R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "rope_theta", rotary_of(R"({"rope_theta": -1})"));
}
