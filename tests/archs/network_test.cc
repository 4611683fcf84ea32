// Networks of seeded weights: what a row gets does not depend on how it is cut into steps or on its neighbours, a step
// allocates nothing, and loading reports and obeys. Equality with Hugging Face is tested end to end in tests/parity.
#include <cmath>

#include "archs/model_fixture.h"
#include "archs/one_sequence.h"
#include "archs/tiny_configs.h"
#include "check.h"
#include "nn/linear.h"

using namespace ft;
using test::checkpoint_builder;
using test::decoder;
using test::decoders;
using test::encoder;
using test::loaded_model;
using test::one_sequence;
using test::seeded_ids;

TEST(cached_chunks_equal_the_whole_to_the_bit) {
  for (const std::string& config : decoders) {
    checkpoint_builder weights(config);
    weights.add_all();
    loaded_model model(weights.open());
    const std::vector<int32_t> ids = seeded_ids(45, 3, 64);
    const std::vector<float> whole = model.hidden({ids});
    CHECK(std::isfinite(whole.front()) && whole.front() != whole.back());
    for (int chunk : {1, 7, 45}) {
      one_sequence kv(model, 3);
      std::vector<float> parts;
      for (int done = 0; done < 45; done += chunk) {
        const int end = std::min(45, done + chunk);
        const std::vector<float> part = kv.step(model, {ids.begin() + done, ids.begin() + end}, done);
        parts.insert(parts.end(), part.begin(), part.end());
      }
      CHECK_MSG(parts == whole, model.config.model_type, " in chunks of ", chunk);
    }
  }
}

TEST(rows_do_not_see_their_neighbours) {
  std::vector<std::string> configs = decoders;
  configs.push_back(encoder("bert", "BertModel"));
  configs.push_back(encoder("roberta", "RobertaModel", R"(, "pad_token_id": 1)"));
  configs.push_back(encoder("distilbert", "DistilBertModel"));
  for (const std::string& config : configs) {
    checkpoint_builder weights(config);
    weights.add_all();
    loaded_model model(weights.open());
    const std::vector<std::vector<int32_t>> rows = {seeded_ids(9, 1, 64), seeded_ids(1, 2, 64), seeded_ids(23, 3, 64)};
    std::vector<float> alone;
    for (const auto& row : rows) {
      const std::vector<float> one = model.hidden({row});
      alone.insert(alone.end(), one.begin(), one.end());
    }
    CHECK_MSG(model.hidden(rows) == alone, model.config.model_type);
  }
}

TEST(encoders_see_both_ways_and_decoders_do_not) {
  const auto first_of = [](const std::string& config, std::vector<int32_t> ids) {
    checkpoint_builder weights(config);
    weights.add_all();
    std::vector<float> hidden = loaded_model(weights.open()).hidden({std::move(ids)});
    hidden.resize(32);
    return hidden;
  };
  CHECK(first_of(decoders[0], {5, 6, 7}) == first_of(decoders[0], {5, 6, 8}));
  const std::string bert = encoder("bert", "BertModel");
  CHECK(first_of(bert, {5, 6, 7}) != first_of(bert, {5, 6, 8}));
}

TEST(sliding_windows_forget) {
  // Three layers of window 5 reach back 3 * 4 tokens.
  checkpoint_builder weights(decoders[2]);
  weights.add_all();
  loaded_model model(weights.open());
  std::vector<int32_t> ids = seeded_ids(20, 4, 64);
  const std::vector<float> before = model.hidden({ids});
  ids[3] = (ids[3] + 1) % 64;
  const std::vector<float> after = model.hidden({ids});
  const auto same = [&](int token) {
    return std::equal(before.begin() + token * 32, before.begin() + (token + 1) * 32, after.begin() + token * 32);
  };
  CHECK(same(2) && !same(3) && !same(15) && same(16));
}

TEST(heads_have_their_shapes) {
  struct expectation {
    std::string config;
    int64_t logits_width;
    bool pooled;
  };
  const expectation cases[] = {
      {decoders[0], 64, false},
      {encoder("bert", "BertModel"), 0, false},
      {encoder("bert", "BertForSequenceClassification", R"(, "num_labels": 3)"), 3, true},
      {encoder("bert", "BertForTokenClassification", R"(, "num_labels": 5)"), 5, false},
      {encoder("bert", "BertForMaskedLM"), 64, false},
      {encoder("bert", "BertForMaskedLM", R"(, "tie_word_embeddings": false)"), 64, false},
      {encoder("roberta", "RobertaForSequenceClassification"), 2, false},
      {encoder("roberta", "RobertaForMaskedLM"), 64, false},
      {encoder("distilbert", "DistilBertForSequenceClassification"), 2, false},
      {encoder("distilbert", "DistilBertForMaskedLM"), 64, false},
  };
  for (const expectation& e : cases) {
    checkpoint_builder weights(e.config);
    weights.add_all();
    loaded_model model(weights.open());
    std::vector<float> rows(2 * 32, 0.5f);
    model.executor.compute([&](nn::run& run) {
      const tensor hidden(rows.data(), dtype::f32, {2, 32});
      const tensor logits = model.network->logits(run, hidden);
      CHECK_MSG((logits ? logits.dim(1) : 0) == e.logits_width, model.config.architecture);
      CHECK_MSG(bool(model.network->pooled(run, hidden)) == e.pooled, model.config.architecture);
      if (logits) CHECK(logits.dim(0) == 2 && std::isfinite(logits.as<float>()[0]));
    });
  }
}

TEST(a_tied_output_shares_the_embedding) {
  const auto bytes = [](const char* more) {
    checkpoint_builder weights(decoder("llama", more));
    weights.add_all();
    return loaded_model(weights.open()).network->weight_bytes();
  };
  CHECK_EQ(bytes("") - bytes(R"(, "tie_word_embeddings": true)"), 64u * 32 * 4);
}

TEST(weights_that_cannot_be_packed_together_stand_side_by_side) {
  std::vector<float> values(24 * 16), x(3 * 16), bias(24);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13) - 6;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
  const tensor weight(values.data(), dtype::f32, {24, 16});
  const auto pack = [&](int64_t begin, int64_t end) {
    const tensor part = weight.slice(0, begin, end);
    const std::span values(bias.data() + begin, static_cast<size_t>(end - begin));
    return nn::weight_and_bias{cpu_backend().pack(part, dtype::f32),
                               cpu_backend().pack_bias(values, dtype::f32, host_memory())};
  };
  const nn::linear one({pack(0, 24)}), two({pack(0, 8), pack(8, 24)});
  CHECK_EQ(two.out_features(), 24);
  runtime::executor executor(cpu_backend(), 2);
  executor.compute([&](nn::run& run) {
    const tensor rows(x.data(), dtype::f32, {3, 16}), residual = run.activations.make(dtype::f32, {3, 24});
    for (int64_t i = 0; i < residual.size(); ++i) residual.as<float>()[i] = 0.5f * static_cast<float>(i);
    const tensor a = run.activations.make(dtype::f32, {3, 24}), b = run.activations.make(dtype::f32, {3, 24});
    one.forward(run, rows, a, activation_kind::relu, residual);
    two.forward(run, rows, b, activation_kind::relu, residual);
    CHECK(loaded_model::copy(a) == loaded_model::copy(b));
    CHECK(loaded_model::copy(a) != loaded_model::copy(residual));
  });
}

TEST(a_steady_step_allocates_nothing) {
  for (const std::string& config : decoders) {
    checkpoint_builder weights(config);
    weights.add_all();
    loaded_model model(weights.open());
    one_sequence kv(model, 3);
    for (int p = 0; p < 4; ++p) kv.step(model, {p}, p);
    const uint64_t before = allocation_count();
    for (int p = 4; p < 20; ++p) kv.step(model, {p}, p);
    CHECK_EQ(allocation_count(), before);
  }
}

TEST(loading_reports_and_can_be_stopped) {
  checkpoint_builder weights(decoders[0]);
  weights.add_all();
  uint64_t last = 0, total = 0;
  loaded_model model(weights.open(), dtype::f32, 2, [&](uint64_t done, uint64_t of) {
    CHECK(done >= last && done <= of);
    last = done;
    total = of;
  });
  CHECK(total > 0);
  CHECK_EQ(last, total);
  CHECK_ERROR(FT_ERROR_CANCELLED, "enough", loaded_model(weights.open(), dtype::f32, 2, [](uint64_t done, uint64_t of) {
                if (2 * done > of) fail(FT_ERROR_CANCELLED, "enough");
              }));
}

TEST(a_pass_can_be_cancelled_between_layers) {
  checkpoint_builder weights(encoder("bert", "BertModel"));
  weights.add_all();
  loaded_model model(weights.open());
  int asked = 0;
  const auto cancelled = [](void* data) { return ++*static_cast<int*>(data) == 2; };
  const auto pass = [&](nn::run& run) {
    const std::vector<int32_t> ids = {1, 2, 3}, zeros(3), offsets = {0, 3};
    nn::ragged_batch batch;
    batch.num_tokens = 3;
    batch.num_rows = 1;
    batch.token_ids = batch.positions = runtime::upload_i32(run, ids);
    batch.token_type_ids = runtime::upload_i32(run, zeros);
    batch.row_offsets = runtime::upload_i32(run, offsets);
    model.network->hidden(run, batch);
  };
  CHECK_ERROR(FT_ERROR_CANCELLED, "cancelled", model.executor.compute(pass, cancelled, &asked));
  CHECK_EQ(asked, 2);
}

TEST(pixels_are_refused_where_there_is_no_vision_tower) {
  checkpoint_builder weights(decoders[0]);
  weights.add_all();
  loaded_model model(weights.open());
  std::vector<float> image(3 * 4 * 4);
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "no vision tower", model.executor.compute([&](nn::run& run) {
    nn::ragged_batch batch = model.upload(run, {{1, 2, 3}});
    batch.pixels = tensor(image.data(), dtype::f32, {1, 3, 4, 4});
    model.network->hidden(run, batch);
  }));
}
