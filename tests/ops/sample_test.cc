// sample and edit_logits: by their definitions, on every level.
#include "ops/sample.h"

#include <limits>

#include "core/logit_edit.h"
#include "ops/edit_logits.h"
#include "ops/harness.h"

namespace ft::test {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

struct drawn {
  int32_t token;
  float log_prob;
  float logit;
};

drawn sample_of(exec& ex, const std::vector<float>& row, double uniform, float temperature) {
  drawn d{-7, 7, 7};
  ops::sample(ex, {.token = tensor(&d.token, dtype::i32, {1}),
                   .log_prob = tensor(&d.log_prob, dtype::f32, {1}),
                   .logit = tensor(&d.logit, dtype::f32, {1}),
                   .x = tensor(const_cast<float*>(row.data()), dtype::f32, {1, static_cast<int64_t>(row.size())}),
                   .uniform = tensor(&uniform, dtype::f64, {1}),
                   .temperature = tensor(&temperature, dtype::f32, {1})});
  return d;
}

}  // namespace

TEST(sample_inverts_the_cumulative_distribution) {
  for (int trial = 0; trial < 200; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    std::vector<float> row = d.normals(d.integer(1, 50), 3);
    for (float& x : row) x = d.integer(0, 4) ? x : d.one_of({nan, -infinity});
    row[static_cast<size_t>(d.integer(0, static_cast<int64_t>(row.size()) - 1))] = 1;
    const double u = static_cast<double>(d.integer(0, 999)) / 1000, t = d.one_of({1.0, 0.5});
    const auto weight = [&](float x) { return x > -infinity ? std::exp(x / t) : 0; };
    double total = 0, before = 0;
    for (float x : row) total += weight(x);
    size_t expected = 0;
    while (before + weight(row[expected]) <= u * total) before += weight(row[expected++]);
    for (auto& m : machines()) {
      const drawn got = sample_of(m->ex, row, u, static_cast<float>(t));
      CHECK_MSG(got.token == static_cast<int32_t>(expected), m->name(), ", trial ", trial);
      CHECK_EQ(got.logit, row[expected]);
      CHECK(std::fabs(got.log_prob - std::log(weight(row[expected]) / total)) < 1e-5);
    }
  }
}

TEST(sample_without_weights) {
  for (auto& m : machines()) {
    CHECK_EQ(sample_of(m->ex, {nan, -infinity, -infinity}, 0.5, 1).token, 1);
    CHECK_EQ(sample_of(m->ex, {nan, nan}, 0.5, 1).token, -1);
    CHECK_EQ(sample_of(m->ex, {-infinity, 3, -infinity}, 0, 1).token, 1);
    CHECK_EQ(sample_of(m->ex, {-infinity, 3, -infinity}, 1 - 0x1p-53, 1).token, 1);
  }
}

TEST(edit_logits_changes_what_the_edits_name) {
  const std::vector<int32_t> edits = {0, 1, 1,              // repetition
                                      1, 1, 1,              //
                                      1, 0, 4,              // presence, and frequency twice
                                      1, 2, 3,              // all of them, once
                                      0, 3, -1, -1, 0, 9};  // a ban, and no edit
  std::vector<float> penalties = {2, 9, 9, 4, 0.5f, 0.25f};
  for (auto& m : machines()) {
    guarded x({2, 4}, 3);
    float next = -2;
    x.each([&](float& v) { v = next++; });  // -2 -1 0 1, 2 3 4 5
    ops::edit_logits(m->ex, {.x = x.view(),
                             .edits = vector_of(edits).reshape({6, 3}),
                             .penalties = tensor(penalties.data(), dtype::f32, {2, 3})});
    CHECK_MSG((x.values() == std::vector<float>{-2, -2, 0, -infinity, 1, 0.75f, 0.25f, 5}), m->name());
    CHECK(x.intact());
  }
}

// The token that an earlier step has chosen is penalised with the others, be it among them or not.
TEST(edit_logits_joins_edits_of_chosen_tokens) {
  const std::vector<int32_t> edits = {0, 1, 2, 1, 1, -1, 2, 0, 1, -1, 0, 9};
  const std::vector<int32_t> chosen = {9, 1, -1, 2}, late = {1, 3, 1, 2, 3, 3, -1, 0, 2, 2};
  std::vector<float> penalties;
  for (int row = 0; row < 5; ++row) penalties.insert(penalties.end(), {2, 0.5f, 0.25f});
  for (auto& m : machines()) {
    guarded x({5, 3}, 3);
    x.fill(8);
    ops::edit_logits(m->ex, {.x = x.view(),
                             .edits = vector_of(edits).reshape({4, 3}),
                             .penalties = tensor(penalties.data(), dtype::f32, {5, 3}),
                             .chosen = vector_of(chosen),
                             .late = vector_of(late).reshape({5, 2})});
    CHECK_MSG((x.values() == std::vector<float>{8, 3, 8,          // once here and once late, with repetition
                                                8, -infinity, 8,  // what is banned stays so
                                                4, 8, 3.25f,      // two tokens
                                                8, 8, 8,          // none
                                                8, 8, 8}),        // one that was never chosen
              m->name());
    CHECK(x.intact());
  }
}

}  // namespace ft::test
