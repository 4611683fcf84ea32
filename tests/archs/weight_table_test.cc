// Weight tables: their names and shard axes, what matching leaves over, and the message about what does not fit.
#include <chrono>

#include "archs/model_fixture.h"
#include "check.h"

using namespace ft;
using arch::shard_axis;
using test::checkpoint_builder;

namespace {

const char* const tiny_llama = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
  "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "attention_bias": true})";

const char* const tiny_bert = R"({"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 64,
  "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
  "max_position_embeddings": 40})";

arch::weight_table table_of(const io::checkpoint& source) {
  const arch::family& family = arch::family_of(source);
  return family.weights(family.config(source), source.format());
}

const arch::weight_spec& find(const arch::weight_table& table, const std::string& name) {
  for (const arch::weight_spec& spec : table)
    if (spec.name == name) return spec;
  throw test::failure("the table has no " + name);
}

}  // namespace

TEST(every_weight_says_how_it_is_split) {
  const auto source = checkpoint_builder(tiny_llama).open();
  const arch::weight_table table = table_of(*source);
  CHECK_EQ(table.size(), 1u + 2 * (2 + 4 * 2 + 3) + 2);
  CHECK(find(table, "embedding.weight").shard == shard_axis::vocabulary);
  CHECK(find(table, "output.weight").shard == shard_axis::vocabulary);
  CHECK(find(table, "layers.1.attention.key.weight").shard == shard_axis::column);
  CHECK(find(table, "layers.1.attention.key.bias").shard == shard_axis::column);
  CHECK(find(table, "layers.1.attention.output.weight").shard == shard_axis::row);
  CHECK(find(table, "layers.1.attention.output.bias").shard == shard_axis::none);  // added once, after the sum
  CHECK(find(table, "layers.1.feed_forward.down.weight").shard == shard_axis::row);
  CHECK(find(table, "norm.weight").shard == shard_axis::none);
  CHECK(find(table, "layers.0.attention.key.weight").shape == std::vector<int64_t>({16, 32}));
  CHECK(find(table, "layers.0.attention.key.weight").may_quantise);
  CHECK(!find(table, "layers.0.attention_norm.weight").may_quantise);
}

TEST(a_complete_checkpoint_passes_and_the_rest_is_unused) {
  for (const char* config : {tiny_llama, tiny_bert}) {
    checkpoint_builder model(config);
    model.add_all();
    model.add("cls.seq_relationship.weight", {2, 32});
    const auto source = model.open();
    const arch::weight_table table = table_of(*source);
    const arch::weight_match match = arch::match(table, *source);
    arch::require_complete(match, *source);
    CHECK_EQ(match.unused.size(), 1u);
    CHECK_EQ(match.unused[0]->name, "cls.seq_relationship.weight");
  }
}

TEST(all_faults_are_told_at_once) {
  checkpoint_builder model(tiny_llama);
  model.add_all();
  model.remove("model.norm.weight");
  model.remove("model.layers.1.mlp.up_proj.weight");
  model.remove("model.layers.0.self_attn.q_proj.weight");
  model.add("model.layers.0.self_attn.q_proj.weight", {32, 16});
  model.remove("lm_head.weight");
  model.add("lm_head.weight", {64, 32}, dtype::i32);
  const auto source = model.open();
  const arch::weight_table table = table_of(*source);
  const arch::weight_match match = arch::match(table, *source);
  for (const char* part : {"tiny: 4 tensors do not fit", "model.norm.weight [32] is missing",
                           "model.layers.1.mlp.up_proj.weight [48, 32] is missing",
                           "model.layers.0.self_attn.q_proj.weight has shape [32, 16], expected [32, 32]",
                           "lm_head.weight is int32, expected float32"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, part, arch::require_complete(match, *source));
}

// A tensor that libft has no type for counts only where the table wants it: then as unsupported, also where the model
// could do without it (a bias) or another file would (a tied output).
TEST(foreign_tensors_are_refused_only_where_needed) {
  checkpoint_builder model(tiny_llama);
  model.add_all();
  model.add_foreign("quantiser.scales", {2, 3, 4, 5, 6});
  const auto require = [&](const checkpoint_builder& m) {
    const auto source = m.open();
    const arch::weight_table table = table_of(*source);
    const arch::weight_match match = arch::match(table, *source);
    arch::require_complete(match, *source);
    CHECK_EQ(match.unused_foreign.size(), 1u);
    CHECK(match.unused.empty());
  };
  require(model);

  for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.k_proj.bias"}) {
    checkpoint_builder wrong = model;
    wrong.remove(name);
    wrong.add_foreign(name, {48, 32});
    CHECK_ERROR(
        FT_ERROR_UNSUPPORTED,
        cat("tiny: 1 tensor does not fit what libft supports:\n  ", name, ": its dtype F8_E4M3 is not supported"),
        require(wrong));
    wrong.remove("model.norm.weight");
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "tiny: 2 tensors do not fit the configuration:", require(wrong));
  }
}

TEST(a_foreign_output_does_not_pass_for_a_tied_one) {
  checkpoint_builder model(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
    "tie_word_embeddings": true})");
  model.add_all();
  const auto require = [&] {
    const auto source = model.open();
    const arch::weight_table table = table_of(*source);
    arch::require_complete(arch::match(table, *source), *source);
  };
  require();
  model.add_foreign("lm_head.weight", {64, 32});
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "lm_head.weight: its dtype F8_E4M3 is not supported", require());
}

TEST(a_long_list_of_faults_is_cut) {
  const auto source = checkpoint_builder(R"({"model_type": "qwen3", "vocab_size": 64, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 9000, "num_attention_heads": 4})")
                          .open();
  const arch::weight_table table = table_of(*source);
  CHECK_ERROR(FT_ERROR_CHECKPOINT, cat("and ", 2 + 9000 * 11 - 60, " more"),
              arch::require_complete(arch::match(table, *source), *source));
}

TEST(names_with_and_without_the_prefix_are_the_same_weight) {
  checkpoint_builder model(tiny_bert);
  model.add("embeddings.word_embeddings.weight", {64, 32});  // as sentence-transformers saves
  model.add("bert.embeddings.LayerNorm.gamma", {32});        // as TensorFlow named it
  model.add("cls.predictions.decoder.bias", {64});
  const auto source = model.open();
  const arch::weight_table table = table_of(*source);
  const arch::weight_match match = arch::match(table, *source);
  CHECK(match.unused.empty());
  CHECK(*match.find("embedding.weight"));
  CHECK(*match.find("embedding_norm.weight"));
  CHECK(*match.find("output.bias"));
  CHECK(!*match.find("embedding_norm.bias"));
  CHECK(!match.find("no_such_weight"));
}

// Searched one by one, 100,000 names would take minutes.
TEST(a_table_of_a_hundred_thousand_weights_is_matched_in_a_second) {
  using clock = std::chrono::steady_clock;
  constexpr int count = 100000;
  std::vector<float> value(1, 1.0f);
  const auto file = io::mapped_file::wrap(value.data(), sizeof(float), "memory");
  arch::weight_table table;
  std::vector<io::stored_tensor> tensors;
  for (int i = 0; i < count; ++i) {
    arch::weight_spec spec{.name = cat("layers.", i, ".weight"), .shape = {1}};
    spec.sources = {cat("model.layers.", i, ".weight")};
    table.push_back(std::move(spec));
    tensors.push_back({cat("model.layers.", count - 1 - i, ".weight"), tensor(value.data(), dtype::f32, {1}), file});
  }
  const auto source = io::checkpoint::from_parts("large", io::parse_json("{}", "config.json"), std::move(tensors));
  const clock::time_point begin = clock::now();
  const arch::weight_match match = arch::match(table, *source);
  arch::require_complete(match, *source);
  for (const arch::weight_spec& spec : table) {
    const auto* entry = match.find(spec.name);
    CHECK(entry && *entry && entry->spec == &spec && entry->pieces[0].stored->name == "model." + spec.name);
  }
  CHECK(clock::now() - begin < std::chrono::seconds(1));
}

TEST(every_family_is_registered_with_all_its_parts) {
  CHECK(arch::families().size() >= 2);
  for (const arch::family& f : arch::families()) {
    CHECK(!f.name.empty() && !f.hugging_face.empty());
    CHECK(f.config && f.weights && f.build);
  }
}
