// Plans survive being written to bytes; bytes that are no plan, or none of the session's, are refused, and whatever is
// not refused can be executed without reading or writing past anything's end.
#include "runtime/plan/plan_bytes.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "runtime/plan/plan_check.h"
#include "scheduler/composer.h"
#include "scheduler/drawn_workload.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

template <class Plan>
std::vector<std::byte> bytes_of(const Plan& p) {
  std::vector<std::byte> bytes;
  write_plan(bytes, p);
  return bytes;
}

std::string with_seed(uint32_t seed, const std::exception& e) { return cat("seed ", seed, ": ", e.what()); }

int32_t draw_number(const drawer& d, int32_t now) {
  constexpr int32_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
  const int32_t odd[] = {0, -1, -2, 1, least, most, most - 1, 0x7fc00000, 1 << 20};
  if (d.one_in(2)) return odd[d.below(std::size(odd))];
  return static_cast<int32_t>(static_cast<uint32_t>(now) + d.below(9) - 4);
}

// Some arrays one element longer or shorter, or without any.
step_plan resized(const drawer& d, const step_plan& of) {
  step_plan p = of;
  int64_t arrays = 0;
  step_plan::visit_arrays(p, [&](const char*, auto&) { ++arrays; });
  const uint32_t chosen = d.below(static_cast<uint32_t>(arrays)), change = d.below(3);
  step_plan::visit_arrays(p, [&, at = uint32_t{0}](const char*, auto& array) mutable {
    if (at++ != chosen) return;
    if (change == 0) array.clear();
    if (change == 1) array.emplace_back();
    if (change == 2 && !array.empty()) array.pop_back();
  });
  return p;
}

// Bytes, or whole numbers, that are others.
std::vector<std::byte> garbled(const drawer& d, std::vector<std::byte> bytes) {
  for (uint32_t n = 1 + d.below(3); n > 0; --n) {
    if (d.one_in(3)) {
      bytes[d.below(static_cast<uint32_t>(bytes.size()))] ^= static_cast<std::byte>(1u << d.below(8));
      continue;
    }
    const size_t at = d.below(static_cast<uint32_t>(bytes.size() / 4)) * 4;
    int32_t number;
    std::memcpy(&number, &bytes[at], sizeof number);
    number = draw_number(d, number);
    std::memcpy(&bytes[at], &number, sizeof number);
  }
  return bytes;
}

// A step of two rows, of which nothing is wanted.
step_plan plain_plan() {
  step_plan p;
  p.token_ids = {5, 6, 7};
  p.positions = {4, 5, 0};
  p.slots = {12, 13, 0};
  p.row_offsets = {0, 2, 3};
  p.context_lengths = {6, 1};
  p.page_table = {2, 3, 0, 0};
  return p;
}
// Two beams that the step before has chosen, and a row whose token it has.
step_plan beams_plan() {
  step_plan p;
  p.token_ids = {-36, -39, -35};
  p.positions = {5, 5, 8};
  p.slots = {0, 0, 16};
  p.row_offsets = {0, 1, 2, 3};
  p.context_lengths = {6, 6, 9};
  p.page_table = {1, 2, 0, 1, 3, 0, 5, 6, 4};
  p.place = {35, 38, -1};
  p.first = {0, 0, 2};
  p.fresh = {7, 8, -1};
  p.group_offsets = {0, 2, 3};
  p.shared_lengths = {4, 8};
  p.widest_group = 2;
  sampling_metadata& m = p.sampling;
  m.shape.rows[static_cast<size_t>(logits_use::next_beams)] = 2;
  m.shape.rows[static_cast<size_t>(logits_use::best)] = 1;
  m.shape.num_candidates = 8;
  m.shape.num_edits = 2;
  m.shape.num_late = 3;
  m.shape.num_groups = m.shape.num_stops = 1;
  m.tokens = {0, 1, 2};
  m.edits = {{2, 9, 3}, {}};
  m.penalties.resize(3);
  m.late_edits = {{}, {}, {34, 1}};
  m.temperatures = {1, 1};
  m.beam_rows = {0, 1};
  m.beam_offsets = {0, 2};
  m.beam_stops = {-1};
  return p;
}
// What the step before that one wanted: 2 * 2 * 8 numbers of candidates, 2 sums, a token, and then two beams.
sampling_metadata before_beams() {
  sampling_metadata m;
  m.shape.rows[static_cast<size_t>(logits_use::next_beams)] = 2;
  m.shape.rows[static_cast<size_t>(logits_use::best)] = 1;
  m.shape.num_candidates = 8;
  m.beam_offsets = {0, 2};
  return m;
}
// Two samples of one request, from the whole row and from what thresholds leave.
step_plan samples_plan() {
  step_plan p;
  p.token_ids = {1, 2};
  p.positions = {4, 4};
  p.slots = {8, 12};
  p.row_offsets = {0, 1, 2};
  p.context_lengths = {5, 5};
  p.page_table = {1, 2, 1, 3};
  p.sampling.shape.rows[static_cast<size_t>(logits_use::thresholded)] = 1;
  p.sampling.shape.rows[static_cast<size_t>(logits_use::sampled)] = 1;
  p.sampling.shape.num_candidates = 8;
  p.sampling.tokens = {0, 1};
  p.sampling.temperatures = {0.5f, 1};
  p.sampling.uniforms = {0, 0.5};
  p.sampling.thresholds.resize(1);
  return p;
}
// A prompt with embeddings behind a prefix, whose tokens are scored, and an encoder's source with its decoder's row.
step_plan prompts_plan() {
  step_plan p;
  p.sources.token_ids = {1, 2, 3};
  p.sources.positions = {0, 1, 2};
  p.sources.slots = {20, 21, 22};
  p.sources.row_offsets = {0, 3};
  p.sources.embedded = {{{1, 2}}, {1, 2, 3, 4}};
  p.token_ids = {5, 0, 0, 8};
  p.positions = {2, 3, 4, 0};
  p.slots = {2, 3, 4, 8};
  p.row_offsets = {0, 3, 4};
  p.context_lengths = {5, 1};
  p.page_table = {0, 1, 2, 0};
  p.cross_page_table = {5, 5};
  p.cross_lengths = {3, 3};
  p.embedded = {{{1, 1}, {2, 1}}, {1, 2, 3, 4}};
  p.copy_from = {3};
  p.copy_to = {2};
  p.copy_tokens = {4};
  p.prefixes = {{0, 2}};
  p.prefix_slots = {0, 1};
  p.prefix_values = {1, 2, 3, 4};
  p.scored = {{0, 0, 2}};
  p.scored_ids = {-1, 8};
  return p;
}

// Of a decoder, or with an encoder where a plan reads sources.
plan_bounds bounds_of(bool has_encoder) {
  return {.num_pages = 10,
          .page_tokens = 4,
          .max_rows = 4,
          .max_positions = 12,
          .vocab_size = 10,
          .encoder_vocab_size = has_encoder ? 4 : 0,
          .embedding_size = 2,
          .prefix_token_size = 2};
}

struct flaw {
  const char* what;
  step_plan (*of)();
  void (*make)(step_plan&);
};

void check_flaws(std::initializer_list<flaw> flaws, void (*check)(const step_plan&)) {
  for (const auto& plan : {plain_plan, beams_plan, samples_plan, prompts_plan}) check(plan());
  size_t at = 0;
  for (const flaw& f : flaws) {
    step_plan p = f.of();
    f.make(p);
    try {
      CHECK_ERROR(FT_ERROR_INTERNAL, f.what, check(p));
    } catch (const std::exception& e) {
      throw failure(cat("flaw ", at, ": ", e.what()));
    }
    ++at;
  }
}

}  // namespace

TEST(a_plan_is_read_as_it_was_written) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  step_plan read;
  std::set<std::string> filled, all;
  for (int sessions = 0; sessions < 40 || (filled.size() < all.size() && sessions < 2000); ++sessions)
    each_step(random, [&](const scheduled_step& step, const driver&) {
      const step_plan& p = step.plan();
      const std::vector<std::byte> bytes = bytes_of(p);
      read_plan(read, bytes);  // whatever it held before
      std::vector<size_t> sizes;
      step_plan::visit_arrays(p, [&](const char* name, const auto& a) {
        sizes.push_back(a.size());
        all.insert(name);
        if (!a.empty()) filled.insert(name);
      });
      step_plan::visit_arrays(read, [&, at = size_t{0}](const char* name, const auto& a) mutable {
        CHECK_MSG(a.size() == sizes[at++], "seed ", seed, ": ", name);
      });
      CHECK(read.session == p.session && read.slot == p.slot && read.widest_group == p.widest_group);
      CHECK(read.sampling.shape == p.sampling.shape);
      CHECK(read.token_ids == p.token_ids);
      CHECK_MSG(bytes_of(read) == bytes, "seed ", seed);
    });
  CHECK_EQ(filled.size(), all.size());
}

TEST(bytes_that_are_cut_short_or_too_many_are_refused) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  const auto refuse = [&](const step_plan& p) {
    const std::vector<std::byte> bytes = bytes_of(p);
    step_plan read;
    for (size_t length = 0; length < bytes.size(); ++length)
      CHECK_ERROR(FT_ERROR_INTERNAL, "no plan", read_plan(read, std::span(bytes).first(length)));
    std::vector<std::byte> longer = bytes;
    longer.push_back({});
    CHECK_ERROR(FT_ERROR_INTERNAL, "no plan", read_plan(read, longer));
  };
  for (const auto& plan : {plain_plan, beams_plan, samples_plan, prompts_plan}) refuse(plan());
  for (int i = 0; i < 10; ++i)
    each_step(random, [&](const scheduled_step& step, const driver&) {
      if (random() % 40 == 0) refuse(step.plan());
    });
}

// FT_PLAN_CHANGES: how many; 20,000 take seconds.
TEST(changed_plans_are_refused_or_do_no_harm) {
  const char* given = std::getenv("FT_PLAN_CHANGES");
  const int64_t wanted = given ? std::atoll(given) : 20'000;
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  const drawer d{random};
  int64_t refused = 0, contradicted = 0, executed = 0;
  const auto launch = [&](fake_worker worker, std::span<const std::byte> bytes) {
    try {
      worker.launch(bytes, false);
      ++executed;
    } catch (const error& e) {
      CHECK_EQ(e.code(), FT_ERROR_INTERNAL);
      ++refused;
    } catch (const failure&) {  // it reads what is not its own, or nothing
      ++contradicted;
    }
  };
  try {
    while (refused + contradicted + executed < wanted)
      each_step(random, [&](const scheduled_step& step, const driver& s) {
        if (!d.one_in(3)) return;
        const step_plan& p = step.plan();
        const std::vector<std::byte> bytes = bytes_of(p);
        for (int i = 0; i < 4; ++i) {
          launch(s.worker, garbled(d, bytes));
          launch(s.worker, bytes_of(resized(d, p)));
        }
      });
  } catch (const std::exception& e) {
    throw failure(with_seed(seed, e));
  }
  std::printf("%lld changed plans refused, %lld found wrong later, %lld executed\n", static_cast<long long>(refused),
              static_cast<long long>(contradicted), static_cast<long long>(executed));
  CHECK(refused > wanted / 4 && executed > 0);
}

TEST(a_plan_that_contradicts_itself_is_refused) {
  constexpr auto best = static_cast<size_t>(logits_use::best);
  check_flaws(
      {
          {"neither slot", plain_plan, [](step_plan& p) { p.slot = 2; }},
          {"rows that are not the tokens", plain_plan, [](step_plan& p) { p.row_offsets.clear(); }},
          {"rows that are not the tokens", plain_plan, [](step_plan& p) { p.row_offsets = {0, 2, 2, 3}; }},
          {"rows that are not the tokens", plain_plan, [](step_plan& p) { p.row_offsets = {0, 4, 3}; }},
          {"rows that are not the tokens", plain_plan, [](step_plan& p) { p.row_offsets = {1, 2, 3}; }},
          {"rows that are not the tokens", plain_plan, [](step_plan& p) { p.row_offsets = {0, 1, 2}; }},
          {"tokens' arrays", plain_plan, [](step_plan& p) { p.positions.pop_back(); }},
          {"tokens' arrays", plain_plan, [](step_plan& p) { p.slots.push_back(0); }},
          {"context_lengths", plain_plan, [](step_plan& p) { p.context_lengths.push_back(1); }},
          {"negative slots", plain_plan, [](step_plan& p) { p.slots[1] = -1; }},
          {"not the last of their contexts", plain_plan, [](step_plan& p) { p.positions[1] = 6; }},
          {"not the last of their contexts", plain_plan, [](step_plan& p) { p.context_lengths[1] = 0; }},
          {"not the last of their contexts", plain_plan,
           [](step_plan& p) { p.context_lengths[0] = 1, p.positions[0] = -1, p.positions[1] = 0; }},
          {"page table of no even width", plain_plan, [](step_plan& p) { p.page_table.push_back(0); }},
          {"page table of no even width", plain_plan, [](step_plan& p) { p.page_table.clear(); }},
          {"negative pages", plain_plan, [](step_plan& p) { p.page_table[3] = -1; }},
          {"sources of no even width", plain_plan, [](step_plan& p) { p.cross_page_table = {1}; }},
          {"cross_lengths", plain_plan, [](step_plan& p) { p.cross_page_table = {1, 1}; }},
          {"rows without a source", prompts_plan, [](step_plan& p) { p.cross_lengths[0] = 0; }},

          {"rows of sources", prompts_plan, [](step_plan& p) { p.sources.row_offsets = {0}; }},
          {"sources' arrays", prompts_plan, [](step_plan& p) { p.sources.slots.pop_back(); }},
          {"slots of sources", prompts_plan, [](step_plan& p) { p.sources.token_ids[0] = -1; }},
          {"behind the last", prompts_plan, [](step_plan& p) { p.sources.embedded.spans[0].first_token = 2; }},
          {"do not rise", prompts_plan, [](step_plan& p) { p.embedded.spans[1].first_token = 1; }},
          {"do not rise", prompts_plan, [](step_plan& p) { p.embedded.spans[0].count = 0; }},
          {"do not rise", prompts_plan, [](step_plan& p) { p.embedded.spans[0].first_token = -1; }},
          {"embeddings of no even width", prompts_plan, [](step_plan& p) { p.embedded.values.pop_back(); }},
          {"embeddings of no even width", plain_plan, [](step_plan& p) { p.embedded.values = {1}; }},
          {"copies' arrays", prompts_plan, [](step_plan& p) { p.copy_to.push_back(1); }},
          {"negative pages to copy", prompts_plan, [](step_plan& p) { p.copy_tokens[0] = -1; }},
          {"prefixes that do not follow", prompts_plan, [](step_plan& p) { p.prefixes[0].first_slot = 1; }},
          {"prefixes that do not follow", prompts_plan, [](step_plan& p) { p.prefixes[0].length = -1; }},
          {"not the prefixes'", prompts_plan, [](step_plan& p) { p.prefixes[0].length = 3; }},
          {"prefixes of no even width", prompts_plan, [](step_plan& p) { p.prefix_values.pop_back(); }},
          {"scores of tokens that are none", prompts_plan, [](step_plan& p) { p.scored[0].first_token = 3; }},
          {"scores that do not follow", prompts_plan, [](step_plan& p) { p.scored[0].first_score = 1; }},
          {"not the spans'", prompts_plan, [](step_plan& p) { p.scored_ids.push_back(1); }},
          {"not the spans'", prompts_plan, [](step_plan& p) { p.scored_ids[0] = -2; }},

          {"groups that are not the rows", beams_plan, [](step_plan& p) { p.group_offsets = {0, 1, 2}; }},
          {"groups of rows of several", plain_plan,
           [](step_plan& p) { p.group_offsets = {0, 2}, p.shared_lengths = {0}, p.widest_group = 2; }},
          {"shared keys of no groups", plain_plan, [](step_plan& p) { p.widest_group = 1; }},
          {"shared_lengths", beams_plan, [](step_plan& p) { p.shared_lengths.pop_back(); }},
          {"cross_shared_lengths", beams_plan, [](step_plan& p) { p.cross_shared_lengths = {1, 1}; }},
          {"sources of different lengths", beams_plan,
           [](step_plan& p) {
             p.cross_page_table = {1, 1, 2};
             p.cross_lengths = {3, 2, 1};
             p.cross_shared_lengths = {3, 1};
           }},
          {"more shared keys", beams_plan, [](step_plan& p) { p.shared_lengths[1] = 9; }},
          {"more shared keys", beams_plan, [](step_plan& p) { p.shared_lengths[0] = -4; }},
          {"widest group", beams_plan, [](step_plan& p) { p.widest_group = 3; }},
          {"beams' arrays", beams_plan, [](step_plan& p) { p.fresh.pop_back(); }},
          {"beams' arrays", plain_plan, [](step_plan& p) { p.first = {0, 1}; }},
          {"several tokens a row", plain_plan,
           [](step_plan& p) { p.place = {-1, -1}, p.first = {0, 1}, p.fresh = {-1, -1}; }},
          {"without a place or page", beams_plan, [](step_plan& p) { p.place[2] = -2; }},
          {"without a place or page", beams_plan, [](step_plan& p) { p.fresh[0] = -1; }},
          {"beams of no search", beams_plan, [](step_plan& p) { p.first[1] = 2; }},
          {"beams of no search", beams_plan, [](step_plan& p) { p.first = {0, 0, 1}; }},

          {"more rows of logits", beams_plan, [](step_plan& p) { p.sampling.shape.rows[best] = 2; }},
          {"more rows of logits", beams_plan, [](step_plan& p) { p.sampling.shape.rows[best] = -1; }},
          {"too many candidates", beams_plan, [](step_plan& p) { p.sampling.shape.num_candidates = 257; }},
          {"negative numbers", beams_plan, [](step_plan& p) { p.sampling.shape.num_late = -1; }},
          {"candidates of no row", beams_plan, [](step_plan& p) { p.sampling.shape.num_candidates = 0; }},
          {"logits that follow no token", beams_plan, [](step_plan& p) { p.sampling.tokens[0] = 3; }},
          {"logits that follow no token", beams_plan, [](step_plan& p) { p.sampling.tokens.pop_back(); }},
          {"edits of another number", beams_plan, [](step_plan& p) { p.sampling.edits.pop_back(); }},
          {"late edits of other rows", beams_plan,
           [](step_plan& p) { p.sampling.late_edits.pop_back(), p.sampling.shape.num_late = 2; }},
          {"late edits of other rows", beams_plan,
           [](step_plan& p) { p.sampling.edits.clear(), p.sampling.shape.num_edits = 0; }},
          {"penalties of other rows", beams_plan, [](step_plan& p) { p.sampling.penalties.pop_back(); }},
          {"edits of no logit", beams_plan, [](step_plan& p) { p.sampling.edits[0].row = 3; }},
          {"edits of no logit", beams_plan, [](step_plan& p) { p.sampling.edits[0].token = -1; }},
          {"edits of no logit", beams_plan, [](step_plan& p) { p.sampling.edits[0].change = 20; }},
          {"late edits of no token", beams_plan, [](step_plan& p) { p.sampling.late_edits[2].place = -2; }},
          {"temperatures of other rows", samples_plan, [](step_plan& p) { p.sampling.temperatures.pop_back(); }},
          {"random numbers of other rows", samples_plan, [](step_plan& p) { p.sampling.uniforms.pop_back(); }},
          {"thresholds of other rows", samples_plan, [](step_plan& p) { p.sampling.thresholds.clear(); }},
          {"a temperature of none", samples_plan, [](step_plan& p) { p.sampling.temperatures[0] = NAN; }},
          {"a random number of none", samples_plan, [](step_plan& p) { p.sampling.uniforms[1] = 1; }},
          {"thresholds that are none", samples_plan, [](step_plan& p) { p.sampling.thresholds[0].top_k = 1e300; }},
          {"searches without beams", beams_plan, [](step_plan& p) { p.sampling.shape.num_stops = 0; }},
          {"beams of no row", beams_plan, [](step_plan& p) { p.sampling.beam_rows[1] = 3; }},
          {"searches that are not the beams", beams_plan, [](step_plan& p) { p.sampling.beam_offsets = {0, 1}; }},
          {"a search of too many beams", plain_plan,
           [](step_plan& p) {
             const int32_t n = decode::max_beams + 1;
             p.token_ids.assign(n, 1);
             p.positions.assign(n, 0);
             p.context_lengths.assign(n, 1);
             p.row_offsets.resize(n + 1);
             std::iota(p.row_offsets.begin(), p.row_offsets.end(), 0);
             sampling_metadata& m = p.sampling;
             m.tokens.assign(p.row_offsets.begin(), p.row_offsets.end() - 1);
             p.slots = p.page_table = m.beam_rows = m.tokens;
             m.shape.rows[static_cast<size_t>(logits_use::next_beams)] = n;
             m.shape.num_candidates = 8;
             m.shape.num_groups = m.shape.num_stops = 1;
             m.temperatures.assign(n, 1);
             m.scores.assign(n, 0);
             m.beam_offsets = {0, n};
             m.beam_stops = {-1};
           }},
          {"stop tokens that are not", beams_plan, [](step_plan& p) { p.sampling.beam_stops.push_back(1); }},
          {"scores of other rows", beams_plan, [](step_plan& p) { p.sampling.scores.resize(3); }},
          {"scores of other rows", beams_plan, [](step_plan& p) { p.place.clear(), p.first.clear(), p.fresh.clear(); }},
          {"scores that are no numbers", beams_plan,
           [](step_plan& p) {
             p.place.clear(), p.first.clear(), p.fresh.clear();
             p.sampling.scores = {0, NAN, 0};
           }},
      },
      check_plan);
}

TEST(a_plan_that_names_what_the_session_lacks_is_refused) {
  check_flaws({{"more rows than", plain_plan,
                [](step_plan& p) {
                  p.token_ids.assign(5, 1);
                  p.positions.assign(5, 0);
                  p.slots = {0, 4, 8, 12, 16};
                  p.row_offsets = {0, 1, 2, 3, 4, 5};
                  p.context_lengths.assign(5, 1);
                  p.page_table = {0, 1, 2, 3, 4};
                }},
               {"tokens outside", plain_plan, [](step_plan& p) { p.token_ids[2] = 10; }},
               {"tokens outside", prompts_plan, [](step_plan& p) { p.sources.token_ids[2] = 4; }},
               {"positions that", prompts_plan, [](step_plan& p) { p.sources.positions[2] = 12; }},
               {"positions that", plain_plan, [](step_plan& p) { p.context_lengths[1] = 13, p.positions[2] = 12; }},
               {"pages that", plain_plan, [](step_plan& p) { p.page_table[3] = 10; }},
               {"pages that", prompts_plan, [](step_plan& p) { p.cross_page_table[0] = 10; }},
               {"pages that", prompts_plan, [](step_plan& p) { p.copy_from[0] = 10; }},
               {"pages that", prompts_plan, [](step_plan& p) { p.copy_to[0] = 10; }},
               {"pages that", beams_plan, [](step_plan& p) { p.fresh[0] = 10; }},
               {"slots that", plain_plan, [](step_plan& p) { p.slots[0] = 40; }},
               {"slots that", prompts_plan, [](step_plan& p) { p.sources.slots[0] = 40; }},
               {"slots that", prompts_plan, [](step_plan& p) { p.prefix_slots[0] = 40; }},
               {"copies of more than a page", prompts_plan, [](step_plan& p) { p.copy_tokens[0] = 5; }},
               {"contexts longer", plain_plan, [](step_plan& p) { p.context_lengths[1] = 9, p.positions[2] = 8; }},
               {"contexts longer", prompts_plan, [](step_plan& p) { p.cross_lengths[0] = 5; }},
               {"rows without sources", prompts_plan,
                [](step_plan& p) { p.cross_page_table.clear(), p.cross_lengths.clear(); }},
               {"sources without an encoder", plain_plan,
                [](step_plan& p) { p.cross_page_table = {1, 1}, p.cross_lengths = {1, 1}; }},
               {"half a page", beams_plan, [](step_plan& p) { p.shared_lengths[0] = 3; }},
               {"embeddings of another", prompts_plan, [](step_plan& p) { p.embedded.values = {1, 2}; }},
               {"embeddings of another", prompts_plan, [](step_plan& p) { p.sources.embedded.values = {1, 2}; }},
               {"prefixes of another", prompts_plan, [](step_plan& p) { p.prefix_values = {1, 2}; }},
               {"scored tokens", prompts_plan, [](step_plan& p) { p.scored_ids[1] = 10; }},
               {"edits of tokens", beams_plan, [](step_plan& p) { p.sampling.edits[0].token = 10; }}},
              [](const step_plan& p) {
                check_plan(p);
                check_bounds(p, bounds_of(!p.sources.empty()));
              });
}

TEST(a_plan_that_goes_on_from_what_was_not_chosen_is_refused) {
  check_flaws({{"tokens that were not chosen", plain_plan, [](step_plan& p) { p.token_ids[2] = -34; }},
               {"tokens that were not chosen", beams_plan, [](step_plan& p) { p.token_ids[1] = -38; }},
               {"tokens that were not chosen", beams_plan, [](step_plan& p) { p.token_ids[1] = -42; }},
               {"tokens that were not chosen", beams_plan,
                [](step_plan& p) { p.token_ids[1] = std::numeric_limits<int32_t>::min(); }},
               {"late edits of tokens that", beams_plan, [](step_plan& p) { p.sampling.late_edits[2].place = 33; }},
               {"beams that were not chosen", beams_plan, [](step_plan& p) { p.place[1] = 34; }},
               {"beams that were not chosen", beams_plan, [](step_plan& p) { p.place[1] = 36; }},
               {"beams that were not chosen", beams_plan, [](step_plan& p) { p.place[1] = 41; }},
               {"beams of another search", beams_plan, [](step_plan& p) { p.place[0] = 38; }},
               {"beams of another search", beams_plan, [](step_plan& p) { p.first[1] = 1; }},
               {"beams of another search", beams_plan, [](step_plan& p) { p.place[2] = 35, p.fresh[2] = 9; }}},
              [](const step_plan& p) {
                check_plan(p);
                check_follows(p, before_beams());
              });
}

namespace {

// Two sequences for an encoder, given as embeddings, and their decoder's tokens.
forward_plan whole_sequences() {
  forward_plan p;
  p.input.token_ids = {0, 0, 0};
  p.input.token_type_ids = {0, 1, 1};
  p.input.positions = {0, 1, 0};
  p.input.row_offsets = {0, 2, 3};
  p.input.embeddings = {1, 2, 3, 4, 5, 6};
  p.input.embedded = embedded_by::plan;
  p.input.embedding_type = dtype::f16;
  p.target.token_ids = {5, 6, 7};
  p.target.positions = {0, 0, 1};
  p.target.row_offsets = {0, 1, 3};
  p.wanted.logits = true;
  p.pooling = pool_kind::last;
  return p;
}

}  // namespace

TEST(a_plan_for_whole_sequences_is_read_as_it_was_written_and_refused_where_it_is_none) {
  const std::vector<std::byte> bytes = bytes_of(whole_sequences());
  forward_plan read;
  read_plan(read, bytes);
  CHECK(bytes_of(read) == bytes);
  CHECK(read.input.embeddings.size() == 6 && read.target.token_ids == (ints{5, 6, 7}) && read.wanted.logits);
  for (size_t length = 0; length < bytes.size(); ++length)
    CHECK_ERROR(FT_ERROR_INTERNAL, "no plan", read_plan(read, std::span(bytes).first(length)));
  int64_t refused = 0, others = 0;
  for (size_t at = 0; at < bytes.size(); ++at)
    for (int value = 0; value < 256; ++value) {
      std::vector<std::byte> changed = bytes;
      changed[at] = static_cast<std::byte>(value);
      try {
        read_plan(read, changed);
        CHECK(bytes_of(read) == changed);
        others += read.wanted.pooled || read.normalize;  // flags that are none would show here
      } catch (const error& e) {
        CHECK_EQ(e.code(), FT_ERROR_INTERNAL);
        ++refused;
      }
    }
  CHECK(refused > 0 && others > 0);

  const struct {
    const char* what;
    void (*make)(forward_plan&);
  } flaws[] = {
      {"embeddings of no kind", [](forward_plan& p) { p.input.embedded = static_cast<embedded_by>(3); }},
      {"embeddings of no kind", [](forward_plan& p) { p.input.embedding_type = dtype::i8; }},
      {"embeddings that are not there", [](forward_plan& p) { p.input.embeddings.clear(); }},
      {"embeddings that are not there", [](forward_plan& p) { p.input.embedded = embedded_by::first_rank; }},
      {"tokens of no rows", [](forward_plan& p) { p.target.row_offsets.clear(); }},
      {"rows that are not the tokens", [](forward_plan& p) { p.input.row_offsets = {0, 3, 2}; }},
      {"rows that are not the tokens", [](forward_plan& p) { p.input.row_offsets = {0, 0, 3}; }},
      {"rows that are not the tokens", [](forward_plan& p) { p.target = {.row_offsets = {0}}; }},
      {"tokens' arrays", [](forward_plan& p) { p.target.positions.pop_back(); }},
      {"tokens' arrays", [](forward_plan& p) { p.input.token_type_ids.pop_back(); }},
      {"negative tokens or types", [](forward_plan& p) { p.target.token_ids[0] = -1; }},
      {"negative tokens or types", [](forward_plan& p) { p.input.token_type_ids[0] = -1; }},
      {"do not count a row", [](forward_plan& p) { p.target.positions[2] = 2; }},
      {"embeddings of no even width", [](forward_plan& p) { p.input.embeddings.pop_back(); }},
      {"targets that are not", [](forward_plan& p) { p.target.row_offsets = {0, 3}, p.target.positions = {0, 1, 2}; }},
      {"targets that are not", [](forward_plan& p) { p.input = {}; }},
      {"a pooling of no kind", [](forward_plan& p) { p.pooling = static_cast<pool_kind>(4); }},
  };
  for (const auto& f : flaws) {
    forward_plan p = whole_sequences();
    f.make(p);
    CHECK_ERROR(FT_ERROR_INTERNAL, f.what, check_plan(p));
  }
}
