// A model on several ranks gives what it gives on one, within the rounding of sums that are made in another order; it
// joins as often as it must and no more, and it ends as one: given up at the same layer, or with the error of a rank.
#include <cmath>
#include <random>

#include "arch/weights/weight_share.h"
#include "archs/model_fixture.h"
#include "archs/one_sequence.h"
#include "archs/tiny_configs.h"
#include "check.h"
#include "thread_ranks.h"

using namespace ft;
using test::checkpoint_builder;
using test::loaded_model;
using test::one_sequence;
using test::thread_ranks;

namespace {

using token_rows = std::vector<std::vector<int32_t>>;

struct grid {
  int tensor_parallel, pipeline_parallel;
};

struct outputs {
  std::vector<float> hidden, logits, pooled;
};

token_rows drawn_rows(std::mt19937& random, int vocab_size) {
  token_rows rows(3);
  for (auto& row : rows) {
    row.resize(std::uniform_int_distribution<size_t>(1, 20)(random));
    for (int32_t& id : row) id = std::uniform_int_distribution<int32_t>(0, vocab_size - 1)(random);
  }
  return rows;
}

// What a family's model gives for rows, and, of an encoder-decoder, for the answers to them.
outputs compute(loaded_model& model, nn::run& run, const token_rows& rows, const token_rows& answers) {
  const arch::network& network = *model.network;
  nn::ragged_batch batch = model.upload(run, rows);
  if (model.config.is_encoder_decoder) {
    const tensor states = network.encode(run, batch);
    const tensor offsets = batch.row_offsets;
    batch = model.upload(run, answers);
    batch.encoder_states = states;
    batch.encoder_row_offsets = offsets;
  }
  const tensor hidden = network.hidden(run, batch);
  if (!hidden) return {};
  return {loaded_model::copy(hidden), loaded_model::copy(network.logits(run, hidden)),
          loaded_model::copy(network.pooled(run, hidden))};
}

void join_ranks(nn::run& run, const thread_ranks::member& m) {
  run.tensor_ranks = m.tensor_ranks;
  run.stages = m.stages;
}

void expect_near(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
  CHECK_MSG(got.size() == expected.size(), what, ": ", got.size(), " elements, expected ", expected.size());
  float largest = 1;
  for (float x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < got.size(); ++i)
    CHECK_MSG(std::abs(got[i] - expected[i]) <= 2e-5f * largest, what, ": element ", i, " is ", got[i], ", expected ",
              expected[i]);
}

std::vector<std::unique_ptr<loaded_model>> models_of(const checkpoint_builder& weights, const thread_ranks& ranks,
                                                     int threads = 1) {
  std::vector<std::unique_ptr<loaded_model>> models;
  for (const auto& m : ranks.members())
    models.push_back(std::make_unique<loaded_model>(weights.open(m.share), dtype::f32, threads));
  return models;
}

int joins_of_a_layer(const arch::model_config& config, bool decoder) {
  if (config.block == arch::block_kind::parallel) return 1;
  return decoder && config.is_encoder_decoder ? 3 : 2;
}

int64_t layers_on(int stage, int stages, int64_t count) {
  int64_t layers = 0;
  for (int64_t i = 0; i < count; ++i) layers += i * stages / count == stage;
  return layers;
}

void check_counts(thread_ranks& ranks, const grid& g, const arch::model_config& config, const std::string& what) {
  const bool two_sided = config.is_encoder_decoder;
  for (int stage = 0; stage < g.pipeline_parallel; ++stage) {
    const auto side = [&](int64_t layers, bool decoder) {
      return (stage == 0) +
             static_cast<int>(layers_on(stage, g.pipeline_parallel, layers)) * joins_of_a_layer(config, decoder);
    };
    const bool over_vocabulary =
        config.head.kind == arch::head_kind::causal_lm || config.head.kind == arch::head_kind::masked_lm;
    const shared_memory_group::counts expected{
        .sums = side(config.num_layers, true) + (two_sided ? side(config.encoder.num_layers, false) : 0),
        .gathers = over_vocabulary && stage + 1 == g.pipeline_parallel};
    const shared_memory_group::counts done = ranks.tensor_group(stage).done();
    if (g.tensor_parallel > 1)
      CHECK_MSG(done == expected, what, ": ", done.sums, " joins and ", done.gathers, " gathers on stage ", stage,
                ", expected ", expected.sums, " and ", expected.gathers);
  }
  const int hops = g.pipeline_parallel - 1;
  if (hops)
    for (int rank = 0; rank < g.tensor_parallel; ++rank)
      CHECK_EQ(ranks.stage_group(rank).done().sends, hops * (two_sided ? 3 : 1));
}

void check_grid(const std::string& text, const grid& g) {
  const uint32_t seed = std::random_device()();
  std::mt19937 random(seed);
  checkpoint_builder weights(text);
  weights.add_all();
  loaded_model one(weights.open());
  const arch::model_config& config = one.config;
  const std::string what = cat(config.model_type, " ", config.architecture, " over ", g.tensor_parallel, " x ",
                               g.pipeline_parallel, ", seed ", seed);
  const token_rows rows = drawn_rows(random, 60), answers = drawn_rows(random, 60);
  outputs expected;
  one.executor.compute([&](nn::run& run) { expected = compute(one, run, rows, answers); });

  thread_ranks ranks(g.tensor_parallel, g.pipeline_parallel);
  const auto models = models_of(weights, ranks);
  std::vector<outputs> found(models.size());
  const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
    models[i]->executor.compute([&](nn::run& run) {
      join_ranks(run, m);
      found[i] = compute(*models[i], run, rows, answers);
    });
  });
  for (size_t i = 0; i < models.size(); ++i) {
    CHECK_MSG(!errors[i], what, ": ", errors[i]->what());
    const auto& m = ranks.members()[i];
    CHECK_EQ(models[i]->network->is_first_stage(), m.share.pipeline_stage == 0);
    CHECK_EQ(models[i]->network->is_last_stage(), m.is_last_stage());
    CHECK_EQ(models[i]->network->num_kv_heads(), arch::kv_heads_of(m.share, config.attention).count());
    if (!m.is_last_stage()) {
      CHECK_MSG(found[i].hidden.empty() && found[i].logits.empty(), what);
      continue;
    }
    expect_near(found[i].hidden, expected.hidden, what + ", hidden states");
    expect_near(found[i].logits, expected.logits, what + ", logits");
    expect_near(found[i].pooled, expected.pooled, what + ", pooled");
    // Every tensor rank has the same bits.
    CHECK_MSG(found[i].hidden == found.back().hidden && found[i].logits == found.back().logits, what);
  }
  check_counts(ranks, g, config, what);
}

const std::vector<grid> grids = {{2, 1}, {1, 2}, {2, 2}};

// As `decoders`, but for heads that two ranks cannot share.
std::vector<std::string> decoders() {
  std::vector<std::string> configs;
  for (const std::string& config : test::decoders)
    if (config.find(R"("n_head": 3)") == config.npos) configs.push_back(config);
  return configs;
}

}  // namespace

TEST(decoders_on_ranks_give_what_they_give_on_one) {
  for (const std::string& config : decoders())
    for (const grid& g : grids) check_grid(config, g);
  check_grid(test::decoders.back(), {3, 1});  // BLOOM of three heads
  check_grid(test::decoders.back(), {3, 3});
}

TEST(encoder_decoders_on_ranks_give_what_they_give_on_one) {
  for (const std::string& config : test::encoder_decoders)
    for (const grid& g : grids) check_grid(config, g);
}

TEST(encoders_on_ranks_give_what_they_give_on_one) {
  for (const std::string& config :
       {test::encoder("bert", "BertForSequenceClassification", R"(, "num_labels": 3)"),
        test::encoder("bert", "BertForTokenClassification"), test::encoder("bert", "BertForMaskedLM"),
        test::encoder("bert", "BertForMaskedLM", R"(, "tie_word_embeddings": false)"),
        test::encoder("roberta", "RobertaForSequenceClassification"),
        test::encoder("distilbert", "DistilBertForMaskedLM")})
    for (const grid& g : grids) check_grid(config, g);
}

// 66 rows over 4 ranks: 16, 17, 16 and 17 of them.
TEST(a_vocabulary_that_does_not_divide_is_shared_all_the_same) {
  for (const char* more : {"", R"(, "tie_word_embeddings": true)"}) {
    std::string config = test::decoder("llama", more);
    config.replace(config.find(": 64"), 4, ": 66");
    config.replace(config.find(R"("num_key_value_heads": 2)") + 23, 1, "4");
    check_grid(config, {4, 1});
    check_grid(config, {4, 3});
  }
}

// Each rank caches its own layers and heads: chunks of a sequence through pages equal the whole of it on one rank.
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  CHECK_MSG(at != text.npos, from);
  return text.replace(at, from.size(), to);
}

}  // namespace

// Fewer heads of keys and values than ranks: each rank has those that its query heads read.
TEST(ranks_that_read_the_same_keys_each_have_them) {
  const auto with = [](const std::string& config, int heads, int kv_heads, int width) {
    return replaced(replaced(replaced(config, "attention_heads\": 4", cat("attention_heads\": ", heads)),
                             "key_value_heads\": 2", cat("key_value_heads\": ", kv_heads)),
                    "intermediate_size\": 48", cat("intermediate_size\": ", width));
  };
  for (const int family : {0, 2, 5, 6})
    for (const int stages : {1, 2}) {
      const std::string& config = test::decoders[static_cast<size_t>(family)];
      check_grid(with(config, 4, 2, 50), {4, stages});  // and a feed-forward that does not divide
      check_grid(with(config, 6, 2, 50), {3, stages});  // the second rank reads both
      check_grid(with(config, 8, 1, 48), {4, stages});
    }
}

TEST(ranks_share_heads_as_their_readers_go) {
  const auto shares = [](int64_t heads, int64_t kv_heads, int ranks) {
    std::vector<std::pair<int64_t, int64_t>> all;
    for (int r = 0; r < ranks; ++r) {
      const arch::part_of own =
          arch::kv_heads_of({r, ranks, 0, 1}, {.num_heads = heads, .num_kv_heads = kv_heads, .head_dim = 8});
      all.emplace_back(own.begin, own.end);
    }
    return all;
  };
  using parts = std::vector<std::pair<int64_t, int64_t>>;
  CHECK(shares(6, 2, 3) == (parts{{0, 1}, {0, 2}, {1, 2}}));
  CHECK(shares(8, 2, 4) == (parts{{0, 1}, {0, 1}, {1, 2}, {1, 2}}));
  CHECK(shares(8, 8, 2) == (parts{{0, 4}, {4, 8}}));
  CHECK(shares(12, 4, 6) == (parts{{0, 1}, {0, 2}, {1, 2}, {2, 3}, {2, 4}, {3, 4}}));
}

TEST(ranks_cache_their_own_layers_and_heads) {
  for (const std::string& config : {test::decoders[0], test::decoders[8], test::decoders[14]}) {
    checkpoint_builder weights(config);
    weights.add_all();
    loaded_model one(weights.open());
    const std::vector<int32_t> ids = test::seeded_ids(45, 3, 64);
    const std::vector<float> whole = one.hidden({ids});
    for (const grid& g : grids) {
      thread_ranks ranks(g.tensor_parallel, g.pipeline_parallel);
      const auto models = models_of(weights, ranks);
      std::vector<float> parts;
      const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
        one_sequence kv(*models[i], 3);
        for (int done = 0; done < 45; done += 9)
          models[i]->executor.compute([&](nn::run& run) {
            join_ranks(run, m);
            const std::vector<float> part = loaded_model::copy(
                models[i]->network->hidden(run, kv.upload(run, {ids.begin() + done, ids.begin() + done + 9}, done)));
            if (i + 1 == models.size()) parts.insert(parts.end(), part.begin(), part.end());
          });
      });
      for (const auto& e : errors) CHECK_MSG(!e, e->what());
      expect_near(parts, whole, one.config.model_type);
    }
  }
}

// Every stage keeps what its own decoder layers read of the encoder's states: a source in pages 3 to 5, the answer in
// those before.
TEST(ranks_keep_an_encoders_states_for_their_own_layers) {
  for (const std::string& config : {test::encoder_decoders[0], test::encoder_decoders[2]}) {
    checkpoint_builder weights(config);
    weights.add_all();
    const std::vector<int32_t> source = test::seeded_ids(21, 5, 64), answer = test::seeded_ids(11, 6, 64);
    const auto cached = [&](loaded_model& model, nn::run& run, const one_sequence& kv) {
      constexpr int32_t first = 3 * 16;
      std::vector<int32_t> slots;
      for (int32_t p = 0; p < 21; ++p) slots.push_back(kv.slot_of(first + p));
      const tensor states = model.network->encode(run, model.upload(run, {source}));
      model.network->keep_cross(run, states, runtime::upload_i32(run, slots), kv.layers());
      nn::ragged_batch batch = kv.upload(run, answer, 0);
      const std::array<int32_t, 2> pages = {kv.slot_of(first) / 16, kv.slot_of(first + 16) / 16};
      batch.cross_page_table = runtime::upload_i32(run, pages).reshape({1, 2});
      batch.cross_lengths = runtime::upload_i32(run, std::array<int32_t, 1>{21});
      return loaded_model::copy(model.network->hidden(run, batch));
    };
    loaded_model one(weights.open());
    outputs expected;
    one.executor.compute([&](nn::run& run) { expected = compute(one, run, {source}, {answer}); });
    for (const grid& g : grids) {
      thread_ranks ranks(g.tensor_parallel, g.pipeline_parallel);
      const auto models = models_of(weights, ranks);
      const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
        const one_sequence kv(*models[i], 6);
        models[i]->executor.compute([&](nn::run& run) {
          join_ranks(run, m);
          const std::vector<float> found = cached(*models[i], run, kv);
          if (m.is_last_stage()) expect_near(found, expected.hidden, one.config.model_type);
        });
      });
      for (const auto& e : errors) CHECK_MSG(!e, e->what());
    }
  }
}

// Rank 0 gives up when it is asked for the second time, before the second of three layers. Where ranks join, the layer
// is finished; all leave behind it, and the stage behind leaves as it is told.
TEST(a_pass_that_is_given_up_ends_on_all_ranks_at_the_same_layer) {
  checkpoint_builder weights(test::decoders[0]);
  weights.add_all();
  for (const grid& g : std::vector<grid>{{2, 1}, {1, 2}, {1, 3}, {2, 2}, {2, 3}}) {
    thread_ranks ranks(g.tensor_parallel, g.pipeline_parallel);
    const auto models = models_of(weights, ranks);
    std::vector<int> asked(models.size());
    const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
      models[i]->executor.compute(
          [&](nn::run& run) {
            join_ranks(run, m);
            models[i]->network->hidden(run, models[i]->upload(run, {{1, 2, 3}}));
          },
          [](void* count) { return ++*static_cast<int*>(count) == 2; }, &asked[i]);
    });
    const bool first_has_two_layers = g.pipeline_parallel < 3;
    for (size_t i = 0; i < errors.size(); ++i) {
      CHECK_EQ(asked[i], i ? 0 : first_has_two_layers ? 2 : 1);
      CHECK_EQ(bool(errors[i]), first_has_two_layers);
      if (errors[i]) CHECK_MSG(errors[i]->code() == FT_ERROR_CANCELLED, errors[i]->what());
    }
    if (g.tensor_parallel > 1 && first_has_two_layers) {
      CHECK_EQ(ranks.tensor_group(0).done().sums, 1 + 2 * 2);
      if (g.pipeline_parallel > 1) CHECK_EQ(ranks.tensor_group(1).done().sums, 0);
    }
  }
}

TEST(an_encoder_that_is_given_up_ends_on_all_stages) {
  checkpoint_builder weights(test::encoder_decoders[2]);
  weights.add_all();
  for (const grid& g : grids) {
    thread_ranks ranks(g.tensor_parallel, g.pipeline_parallel);
    const auto models = models_of(weights, ranks);
    const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
      models[i]->executor.compute(
          [&](nn::run& run) {
            join_ranks(run, m);
            models[i]->network->encode(run, models[i]->upload(run, {{1, 2, 3}}));
          },
          [](void*) { return true; });
    });
    for (const auto& e : errors) CHECK(e && e->code() == FT_ERROR_CANCELLED);
  }
}

namespace {

// The host's memory until `left` allocations have been made; the next is refused.
class refusing_memory final : public memory {
 public:
  explicit refusing_memory(int left) : left_(left) {}
  void* allocate(size_t bytes) override {
    if (left_-- == 0) throw std::bad_alloc();
    return host_memory().allocate(bytes);
  }
  void deallocate(void* data, size_t bytes) noexcept override { host_memory().deallocate(data, bytes); }

 private:
  int left_;
};

}  // namespace

// Each allocation of one rank's pass is refused in turn: the ranks end with that error, but those that had done their
// part, and the next pass succeeds.
TEST(a_rank_that_fails_ends_the_others) {
  for (const std::string& config : {test::decoders[0], test::encoder_decoders[0]}) {
    checkpoint_builder weights(config);
    weights.add_all();
    const token_rows rows = {{1, 2, 3}, {4}};
    thread_ranks ranks(2, 2);
    const auto models = models_of(weights, ranks);
    for (size_t failing = 0; failing < models.size(); ++failing) {
      bool refused = true;
      for (int left = 0; refused; ++left) {
        refusing_memory memory(left);
        const auto errors = ranks.run([&](const thread_ranks::member& m, size_t i) {
          const auto pass = [&](nn::run& run) {
            join_ranks(run, m);
            compute(*models[i], run, rows, rows);
          };
          if (i != failing) return models[i]->executor.compute(pass);
          runtime::executor own({cpu_backend(), {std::shared_ptr<void>(), &memory}, nullptr}, 1);
          own.compute(pass);
        });
        refused = errors[failing].has_value();
        if (left == 0) CHECK(errors[failing] && errors[failing ^ 1]);  // its tensor peer, who needs it in any case
        for (const auto& e : errors) {
          CHECK(refused || !e);
          if (e) CHECK_MSG(e->code() == FT_ERROR_OUT_OF_MEMORY, e->what());
        }
      }
    }
  }
}

TEST(a_network_is_not_run_without_its_peers) {
  checkpoint_builder weights(test::decoders[0]);
  weights.add_all();
  loaded_model half(weights.open({.tensor_rank = 1, .tensor_parallel = 2}));
  CHECK_ERROR(FT_ERROR_INTERNAL, "num_tensor_ranks", half.hidden({{1, 2}}));
}
