// What a step wants of its logits: which use a request's settings make of them, and that whatever a use needs lines up
// with its rows.
#include "runtime/scheduler/sampling_composer.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "decode/device_choice.h"
#include "decode/philox.h"
#include "runtime/plan/step_results.h"
#include "scheduler/composer.h"
#include "scheduler/drawn_workload.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;
using decode::logprobs_kind;

namespace {

const char* const names[] = {"whole",      "log_probabilities", "beam_candidates", "next_beams",
                             "candidates", "thresholded",       "sampled",         "best"};
const char* name_of(logits_use use) { return names[static_cast<size_t>(use)]; }

std::string describe(const use_properties& p) {
  std::string text;
  const auto add = [&](bool has, const char* what) {
    if (has) text += (text.empty() ? "" : " ") + std::string(what);
  };
  add(p.to_host, "to_host");
  add(p.log_softmax, "log_softmax");
  add(p.candidates, "candidates");
  add(p.next_beam, "next_beam");
  add(p.drawn, "drawn");
  add(p.best, "best");
  return text;
}

// Each use has a number of rows of its own: 1, 2, ... 8.
sampling_shape shape_of_all() {
  sampling_shape s;
  for (size_t i = 0; i < num_logits_uses; ++i) s.rows[i] = static_cast<int32_t>(i) + 1;
  s.num_candidates = 16;
  return s;
}

// A request whose prompt is computed and whose sequences each have a token.
struct asked {
  decode::options settings;
  request_callbacks callbacks;
  bool forked = true;  // else its prompt's last token is being computed
  int64_t vocab = fake_model::vocab;
};

logits_use use_of(const asked& a, bool* goes_on = nullptr) {
  composer c;
  c.limits.vocab_size = a.vocab;
  const ints first_tokens(static_cast<size_t>(a.settings.width()), 5);
  const auto r = a.forked ? c.make_decoding({1, 2}, first_tokens, a.settings, a.callbacks)
                          : c.make({1, 2}, a.settings, {}, a.callbacks);
  if (goes_on) *goes_on = r->goes_on_unread(r->sequences[0]);
  return r->use_of_logits(r->sequences[0]);
}

int keep_going(std::span<const int32_t>, std::span<float>) { return FT_CONTINUE; }

}  // namespace

TEST(each_use_has_its_properties) {
  const char* const expected[] = {"to_host",
                                  "to_host log_softmax",
                                  "log_softmax candidates",
                                  "candidates next_beam",
                                  "candidates",
                                  "candidates drawn",
                                  "drawn",
                                  "best"};
  for (size_t i = 0; i < num_logits_uses; ++i)
    CHECK_MSG(describe(properties_of_uses[i]) == expected[i], names[i], ": ", describe(properties_of_uses[i]));
  CHECK(names[static_cast<size_t>(logits_use::next_beams)] == std::string("next_beams"));
  CHECK(names[static_cast<size_t>(logits_use::best)] == std::string("best"));
}

TEST(rows_of_a_property_are_those_of_its_uses) {
  const sampling_shape s = shape_of_all();
  CHECK(s.rows_of(logits_use::whole) == (row_range{0, 1}));
  CHECK(s.rows_of(logits_use::next_beams) == (row_range{6, 10}));
  CHECK(s.rows_of(logits_use::best) == (row_range{28, 36}));
  CHECK_EQ(s.total(), 36);
  CHECK(s.rows_with(&use_properties::to_host) == (row_range{0, 3}));
  CHECK(s.rows_with(&use_properties::log_softmax) == (row_range{1, 6}));
  CHECK(s.rows_with(&use_properties::candidates) == (row_range{3, 21}));
  CHECK(s.rows_with(&use_properties::next_beam) == (row_range{6, 10}));
  CHECK(s.rows_with(&use_properties::drawn) == (row_range{15, 28}));
  CHECK(s.rows_with(&use_properties::best) == (row_range{28, 36}));
  for (size_t use = 0; use < num_logits_uses; ++use) {
    sampling_shape one;
    one.rows[use] = 3;
    for (auto property : {&use_properties::to_host, &use_properties::log_softmax, &use_properties::candidates,
                          &use_properties::next_beam, &use_properties::drawn, &use_properties::best})
      CHECK_EQ(one.rows_with(property).size(), properties_of_uses[use].*property ? 3 : 0);
  }
}

TEST(what_is_chosen_lies_side_by_side) {
  const sampling_shape s = shape_of_all();
  const choice_layout at(s);
  CHECK(at.value_at == 0 && at.index_at == 18 * 16 && at.log_sum_at == 2 * 18 * 16);
  CHECK_EQ(at.token_at, at.log_sum_at + 18);
  CHECK(at.log_prob_at == at.token_at + 13 && at.logit_at == at.log_prob_at + 13 && at.best_at == at.logit_at + 13);
  CHECK(at.next_at == at.best_at + 8 && at.size == at.next_at + 4 * 3);
  CHECK_EQ(place_of_choice(s, 7), at.next_at + 3);         // the second of the next beams
  CHECK_EQ(place_of_choice(s, 11), at.index_at + 8 * 16);  // the first of its candidates
  CHECK_EQ(place_of_choice(s, 16), at.token_at + 1);       // thresholded: the one drawn
  CHECK_EQ(place_of_choice(s, 27), at.token_at + 12);      // sampled
  CHECK_EQ(place_of_choice(s, 35), at.best_at + 7);
}

TEST(settings_say_what_of_the_logits_is_used) {
  const auto with = [](auto&& change, asked a = {}) {
    change(a);
    return a;
  };
  const auto greedy = [&](auto&& change) { return with(change); };
  const auto sampled = [&](auto&& change) {
    return with(change, {.settings = [] {
                  decode::options o;
                  o.do_sample = true;
                  return o;
                }()});
  };
  const auto beams = [&](auto&& change) {
    return with(change, {.settings = [] {
                  decode::options o;
                  o.num_beams = 4;
                  return o;
                }()});
  };
  const struct {
    asked what;
    logits_use use;
    bool goes_on;
  } cases[] = {
      {greedy([](asked&) {}), logits_use::best, true},
      {greedy([](asked& a) { a.settings.repetition_penalty = 2; }), logits_use::best, true},
      {greedy([](asked& a) { a.settings.temperature = 0.5f; }), logits_use::best, true},
      {greedy([](asked& a) { a.settings.logprobs = logprobs_kind::processed; }), logits_use::candidates, true},
      {greedy([](asked& a) { a.settings.logprobs = logprobs_kind::raw; }), logits_use::candidates, true},
      {greedy([](asked& a) {
         a.settings.logprobs = logprobs_kind::processed;
         a.settings.min_new_tokens = 1;
       }),
       logits_use::candidates, true},
      {greedy([](asked& a) {
         a.settings.logprobs = logprobs_kind::raw;
         a.settings.min_new_tokens = 1;
       }),
       logits_use::whole, false},
      {greedy([](asked& a) { a.callbacks.on_logits = keep_going; }), logits_use::whole, false},
      {greedy([](asked& a) { a.callbacks.constrain_logits = keep_going; }), logits_use::whole, false},
      {greedy([](asked& a) { a.callbacks.should_stop = [](auto) { return FT_CONTINUE; }; }), logits_use::best, true},
      {greedy([](asked& a) { a.settings.no_repeat_ngram_size = 2; }), logits_use::best, false},
      {greedy([](asked& a) { a.settings.bad_words = {{1}}; }), logits_use::best, true},
      {greedy([](asked& a) { a.settings.bad_words = {{1, 2}}; }), logits_use::best, false},
      {greedy([](asked& a) { a.settings.forced_eos_token_ids = {3}; }), logits_use::best, true},
      {greedy([](asked& a) { a.settings.forced_eos_token_ids = {3}, a.settings.max_new_tokens = 2; }),
       logits_use::whole, false},
      {greedy([](asked& a) { a.settings.forced_bos_token_id = 3; }), logits_use::best, true},

      {sampled([](asked&) {}), logits_use::sampled, true},
      {sampled([](asked& a) { a.settings.temperature = 0.5f; }), logits_use::sampled, true},
      {sampled([](asked& a) { a.settings.logprobs = logprobs_kind::processed; }), logits_use::sampled, true},
      {sampled([](asked& a) { a.settings.logprobs = logprobs_kind::raw; }), logits_use::whole, false},
      {sampled([](asked& a) { a.settings.top_k = 3; }), logits_use::thresholded, true},
      {sampled([](asked& a) { a.settings.top_k = 300; }), logits_use::thresholded, true},
      {sampled([](asked& a) { a.settings.top_p = 0.9f; }), logits_use::thresholded, true},
      {sampled([](asked& a) { a.settings.min_p = 0.1f; }), logits_use::thresholded, true},
      {sampled([](asked& a) { a.settings.top_p_decay = 0.9f; }), logits_use::thresholded, false},
      {sampled([](asked& a) { a.settings.typical_p = 0.9f; }), logits_use::whole, false},
      {sampled([](asked& a) { a.settings.top_k = 3, a.settings.typical_p = 0.9f; }), logits_use::whole, false},
      {sampled([](asked& a) { a.settings.top_k = 3, a.settings.logprobs = logprobs_kind::raw; }),
       logits_use::thresholded, true},
      {sampled([](asked& a) {
         a.settings.top_k = 3, a.settings.logprobs = logprobs_kind::raw, a.settings.temperature = 2;
       }),
       logits_use::whole, false},
      {sampled([](asked& a) { a.settings.num_return_sequences = 2; }), logits_use::sampled, true},
      {sampled([](asked& a) { a.settings.num_return_sequences = 2, a.forked = false; }), logits_use::whole, false},
      {sampled([](asked& a) { a.callbacks.on_logits = keep_going; }), logits_use::whole, false},

      {beams([](asked&) {}), logits_use::next_beams, true},
      {beams([](asked& a) { a.forked = false; }), logits_use::candidates, false},
      {beams([](asked& a) { a.settings.logprobs = logprobs_kind::raw; }), logits_use::next_beams, true},
      {beams([](asked& a) { a.vocab = most_beam_tokens + 1; }), logits_use::candidates, false},
      {beams([](asked& a) { a.callbacks.should_stop = [](auto) { return FT_CONTINUE; }; }), logits_use::candidates,
       false},
      {beams([](asked& a) { a.settings.repetition_penalty = 2; }), logits_use::beam_candidates, false},
      {beams([](asked& a) {
         a.settings.repetition_penalty = 2;
         a.settings.logprobs = logprobs_kind::raw;
       }),
       logits_use::log_probabilities, false},
      {beams([](asked& a) { a.settings.do_sample = true; }), logits_use::log_probabilities, false},
      {beams([](asked& a) { a.settings.num_beam_groups = 2, a.settings.diversity_penalty = 1; }),
       logits_use::log_probabilities, false},
      {beams([](asked& a) { a.callbacks.on_logits = keep_going; }), logits_use::log_probabilities, false},
      {beams([](asked& a) { a.settings.forced_eos_token_ids = {3}, a.settings.max_new_tokens = 2; }),
       logits_use::log_probabilities, false},
      // 4 beams with 63 and 64 stop tokens look at 256 and 260 continuations.
      {beams([](asked& a) { a.settings.stop_token_ids.assign(63, 1); }), logits_use::next_beams, true},
      {beams([](asked& a) { a.settings.stop_token_ids.assign(64, 1); }), logits_use::log_probabilities, false},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    bool goes_on = false;
    const logits_use use = use_of(cases[i].what, &goes_on);
    CHECK_MSG(use == cases[i].use, "case ", i, ": ", name_of(use), " for ", name_of(cases[i].use));
    CHECK_MSG(goes_on == cases[i].goes_on, "case ", i, ": goes on ", goes_on);
  }
}

TEST(a_token_that_is_forced_at_the_beginning_needs_the_row) {
  composer c;
  decode::options o;
  o.forced_bos_token_id = 3;
  const auto one = c.make({1}, o), two = c.make({1, 2}, o);
  CHECK(one->use_of_logits(one->sequences[0]) == logits_use::whole);
  CHECK(two->use_of_logits(two->sequences[0]) == logits_use::best);
}

TEST(rows_of_logits_lie_by_use_with_what_each_use_needs) {
  composer c;
  decode::options greedy, penalised, sampled, cut, typical, searched;
  penalised.frequency_penalty = 0.5f;
  penalised.bad_words = {{9}};
  sampled.do_sample = cut.do_sample = typical.do_sample = true;
  sampled.temperature = 0.5f;
  sampled.seed = 7;
  cut.top_k = 20;
  cut.top_p = 0.75f;
  cut.min_p = 0.25f;
  cut.temperature = 2;
  typical.typical_p = 0.5f;
  searched.num_beams = 2;
  searched.stop_token_ids = {30, 31, 32};
  const auto a = c.make_decoding({1, 2}, {5}, greedy), b = c.make_decoding({1, 2}, {6}, sampled),
             d = c.make_decoding({1, 2}, {7, 8}, searched), e = c.make_decoding({1, 2}, {5}, penalised),
             f = c.make_decoding({1, 2}, {5}, cut), g = c.make_decoding({1, 2}, {5}, typical),
             prompt = c.make({1, 2, 3, 4}), h = c.make_decoding({1}, {4, 3}, searched);
  for (const auto& r : {a, b}) c.add(r);
  for (size_t i = 0; i < 2; ++i) c.add(d, 1, i);
  for (const auto& r : {e, f, g}) c.add(r);
  c.add(prompt, 3);  // nobody asks for its logits yet
  for (size_t i = 0; i < 2; ++i) c.add(h, 1, i);
  const sampling_metadata& m = c.finish().sampling;

  std::array<int32_t, num_logits_uses> rows{};
  rows[static_cast<size_t>(logits_use::whole)] = 1;
  rows[static_cast<size_t>(logits_use::next_beams)] = 4;
  rows[static_cast<size_t>(logits_use::thresholded)] = 1;
  rows[static_cast<size_t>(logits_use::sampled)] = 1;
  rows[static_cast<size_t>(logits_use::best)] = 2;
  CHECK(m.shape.rows == rows);
  // g | d d h h | f | b | a e; the prompt has three tokens.
  CHECK(m.tokens == (ints{6, 2, 3, 10, 11, 5, 1, 0, 4}));
  CHECK(g->sequences[0].logits_row == 0 && d->sequences[0].logits_row == 1 && d->sequences[1].logits_row == 2);
  CHECK(h->sequences[1].logits_row == 4 && f->sequences[0].logits_row == 5 && b->sequences[0].logits_row == 6);
  CHECK(a->sequences[0].logits_row == 7 && e->sequences[0].logits_row == 8 && prompt->sequences[0].logits_row == -1);
  CHECK_EQ(m.shape.num_candidates, 32);  // 21 of f's
  CHECK(m.temperatures == (floats{1, 1, 1, 1, 2, 0.5f}));
  CHECK_EQ(m.uniforms.size(), size_t{2});
  CHECK(m.uniforms[0] == decode::uniform(0, 1) && m.uniforms[1] == decode::uniform(7, 1));
  CHECK_EQ(m.thresholds.size(), size_t{1});
  CHECK(m.thresholds[0].top_k == 20 && m.thresholds[0].top_p == 0.75 && m.thresholds[0].min_p == 0.25);
  CHECK(m.beam_rows == (ints{2, 3, 8, 9}) && m.beam_offsets == (ints{0, 2, 4}));
  CHECK(m.shape.num_groups == 2 && m.shape.num_stops == 4);
  CHECK(m.beam_stops == (ints{30, 31, 32, -1, 30, 31, 32, -1}));
  CHECK(m.scores == (floats{0, 0, -1, -2, 0, 0, 0, 0, -1, -2}));
  CHECK(m.shape.num_edits == 64 && m.edits.size() == 64 && m.shape.num_late == 0 && m.late_edits.empty());
  CHECK(m.edits[0].row == 8 && m.edits[0].token == 5 && m.edits[0].change == 2);
  CHECK(m.edits[1].row == 8 && m.edits[1].token == 9 && m.edits[1].change == logit_edit::ban);
  CHECK_EQ(m.edits[2].row, -1);
  CHECK(m.penalties.size() == 9 && m.penalties[8].frequency == 0.5f && m.penalties[7].frequency == 0);
}

TEST(a_penalty_of_a_token_that_is_yet_to_be_read_comes_late) {
  composer c;
  decode::options penalised;
  penalised.repetition_penalty = 2;
  penalised.presence_penalty = 1;
  const auto plain = c.make_decoding({1, 2}, {5}), a = c.make_decoding({1, 2}, {1}, penalised);
  for (const auto& r : {plain, a}) r->sequences[0].computed = r->sequences[0].known();
  plain->sequences[0].chosen_at = 7;
  a->sequences[0].chosen_at = 8;
  c.add(plain);
  c.add(a);
  const sampling_metadata& m = c.finish().sampling;
  CHECK_EQ(m.shape.num_late, 2);
  CHECK(m.late_edits[0].place == -1 && m.late_edits[0].change == 0);
  CHECK(m.late_edits[1].place == 8 && m.late_edits[1].change == 3);  // once more, and penalised for coming at all
  CHECK(m.edits[0].row == 1 && m.edits[0].token == 1 && m.edits[0].change == 3);
  CHECK(m.edits[1].row == 1 && m.edits[1].token == 2 && m.edits[1].change == 1);
  CHECK(m.edits[2].row == -1 && m.penalties.size() == 2);

  // With no edits but a late one, there are penalties too.
  composer late;
  decode::options presence;
  presence.presence_penalty = 1;
  const auto b = late.make({1}, presence);
  late.pages.cover(b->sequences[0].pages, 1);
  b->sequences[0].computed = 1;
  b->sequences[0].chosen_at = 3;
  late.add(b);
  const sampling_metadata& n = late.finish().sampling;
  CHECK(n.shape.num_late == 1 && n.late_edits[0].change == 2 && n.penalties.size() == 1 && n.shape.num_edits == 64);
  CHECK(std::ranges::all_of(n.edits, [](const logit_edit& e) { return e.row == -1; }));
}

TEST(nothing_is_edited_where_nobody_asks_for_it) {
  composer c;
  decode::options sampled;
  sampled.do_sample = true;
  c.add(c.make_decoding({1, 2}, {5}));
  c.add(c.make_decoding({1, 2}, {5}, sampled));
  const sampling_metadata& m = c.finish().sampling;
  CHECK(m.edits.empty() && m.penalties.empty() && m.late_edits.empty() && m.beam_rows.empty() && m.scores.empty());
  CHECK(m.beam_offsets.empty() && m.beam_stops.empty() && m.thresholds.empty());
  CHECK(m.shape.num_edits == 0 && m.shape.num_candidates == 0 && m.shape.num_groups == 0 && m.shape.num_stops == 0);
}

namespace {

struct wanted_row {
  logits_use use;
  const scheduled_request* owner;
  const sequence* of;
  int32_t row, token;
};

// Of each token of the vocabulary, what the settings make of it; by the definitions (core/logit_edit.h).
std::map<int32_t, int32_t> edits_of(const wanted_row& w) {
  const decode::options& o = w.owner->settings();
  const ints& tokens = w.of->tokens;
  const auto prompt = static_cast<size_t>(w.owner->prompt_length());
  const size_t num_new = tokens.size() - prompt + (w.of->chosen_at >= 0);
  std::map<int32_t, int32_t> changes;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0) continue;
    if (o.repetition_penalty != 1) changes[tokens[i]] |= 1;
    if (i >= prompt && (o.presence_penalty != 0 || o.frequency_penalty != 0)) changes[tokens[i]] += 2;
  }
  const auto ends_with = [&](std::span<const int32_t> part) {
    return part.size() <= tokens.size() && std::ranges::equal(part, std::span(tokens).last(part.size()));
  };
  const auto n = static_cast<size_t>(o.no_repeat_ngram_size);
  for (size_t i = 0; n > 0 && i + n <= tokens.size(); ++i)
    if (ends_with(std::span(tokens).subspan(i, n - 1)) && tokens[i + n - 1] >= 0)
      changes[tokens[i + n - 1]] = logit_edit::ban;
  for (const ints& word : o.bad_words) {
    const bool is_stop = word.size() == 1 && std::ranges::count(o.stop_token_ids, word[0]) > 0;
    if (!is_stop && ends_with(std::span(word).first(word.size() - 1))) changes[word.back()] = logit_edit::ban;
  }
  if (static_cast<int32_t>(num_new) < o.min_new_tokens)
    for (int32_t token : o.stop_token_ids) changes[token] = logit_edit::ban;
  return changes;
}

void check_sampling(const scheduled_step& step) {
  const step_plan& p = step.plan();
  const sampling_metadata& m = p.sampling;
  std::vector<wanted_row> rows;
  int32_t at = 0;
  step.each_row([&](const scheduled_request& r, const sequence& s) {
    const bool to_the_end = s.computed + s.scheduled == static_cast<int64_t>(s.tokens.size()) + (s.chosen_at >= 0);
    if (to_the_end) rows.push_back({r.use_of_logits(s), &r, &s, at, p.row_offsets[static_cast<size_t>(at) + 1] - 1});
    CHECK(to_the_end || s.logits_row == -1);
    ++at;
  });
  std::ranges::stable_sort(rows, {}, &wanted_row::use);

  ints tokens, beam_rows, beam_offsets;
  floats temperatures;
  std::vector<double> uniforms;
  std::vector<const scheduled_request*> searches;
  size_t thresholds = 0, candidates = 0, stops = 0;
  bool has_edits = false, has_late = false;
  for (size_t i = 0; i < rows.size(); ++i) {
    const wanted_row& w = rows[i];
    const decode::options& o = w.owner->settings();
    CHECK_EQ(w.of->logits_row, static_cast<int32_t>(i));
    CHECK(m.shape.rows_of(w.use).contains(static_cast<int64_t>(i)));
    tokens.push_back(w.token);
    const bool is_drawn = w.use == logits_use::thresholded || w.use == logits_use::sampled;
    const bool has_candidates = w.use >= logits_use::beam_candidates && w.use <= logits_use::thresholded;
    if (has_candidates) {
      const size_t least = o.uses_beams() ? o.beam_candidates() : o.token_candidates();
      candidates = std::max(candidates, std::min(least, size_t{256}));
    }
    if (has_candidates || is_drawn) temperatures.push_back(is_drawn ? o.temperature : 1);
    const auto index = static_cast<uint64_t>(w.of - w.owner->sequences.data());
    const uint64_t num_new =
        w.of->tokens.size() + (w.of->chosen_at >= 0) - static_cast<uint64_t>(w.owner->prompt_length());
    if (is_drawn) uniforms.push_back(decode::uniform(o.seed + index, num_new));
    if (w.use == logits_use::thresholded) {
      const sampling_limits& by = m.thresholds.at(thresholds++);
      CHECK(by.top_k == o.top_k && by.min_p == double{o.min_p} &&
            by.top_p == o.top_p_after(w.owner->new_tokens(*w.of)));
    }
    if (w.use == logits_use::next_beams) {
      if (searches.empty() || searches.back() != w.owner) {
        searches.push_back(w.owner);
        beam_offsets.push_back(static_cast<int32_t>(beam_rows.size()));
        stops = std::max(stops, o.stop_token_ids.size());
      }
      beam_rows.push_back(w.row);
      if (!p.reorders_beams()) CHECK_EQ(m.scores.at(static_cast<size_t>(w.row)), w.owner->score_of(*w.of));
    }
    if (properties_of_uses[static_cast<size_t>(w.use)].to_host) continue;
    const auto edits = edits_of(w);
    has_edits |= !edits.empty();
    std::map<int32_t, int32_t> found;
    for (const logit_edit& e : m.edits)
      if (e.row == static_cast<int32_t>(i)) CHECK(found.emplace(e.token, e.change).second);
    CHECK(found == edits);
    const int32_t late = w.of->chosen_at < 0
                             ? 0
                             : (o.repetition_penalty != 1) + 2 * (o.presence_penalty != 0 || o.frequency_penalty != 0);
    has_late |= late != 0;
    if (late != 0) CHECK(m.late_edits.at(i).place == w.of->chosen_at && m.late_edits[i].change == late);
    if (late == 0 && !m.late_edits.empty()) CHECK(m.late_edits.at(i).change == 0);
    if (!m.penalties.empty())
      CHECK(m.penalties.at(i).repetition == o.repetition_penalty && m.penalties[i].presence == o.presence_penalty &&
            m.penalties[i].frequency == o.frequency_penalty);
  }
  if (!searches.empty()) beam_offsets.push_back(static_cast<int32_t>(beam_rows.size()));
  CHECK(m.tokens == tokens && m.temperatures == temperatures && m.uniforms == uniforms);
  CHECK(m.beam_rows == beam_rows && m.beam_offsets == beam_offsets && m.thresholds.size() == thresholds);
  CHECK_EQ(m.shape.total(), static_cast<int64_t>(rows.size()));
  CHECK_EQ(m.shape.num_groups, static_cast<int32_t>(searches.size()));
  const auto k = static_cast<size_t>(m.shape.num_candidates);
  CHECK(k >= candidates && (k == 0) == (candidates == 0) && k <= std::max<size_t>(8, 2 * candidates));
  CHECK_EQ(m.shape.num_late > 0, has_late);
  CHECK_EQ(m.shape.num_edits > 0, has_edits || has_late);
  CHECK(m.scores.empty() == (searches.empty() || p.reorders_beams()));
  for (size_t g = 0; g < searches.size(); ++g) {
    const auto width = static_cast<size_t>(m.shape.num_stops);
    ints own(m.beam_stops.begin() + static_cast<std::ptrdiff_t>(g * width),
             m.beam_stops.begin() + static_cast<std::ptrdiff_t>((g + 1) * width));
    ints padded = searches[g]->settings().stop_token_ids;
    padded.resize(std::max(width, padded.size()), -1);
    CHECK(width >= std::max<size_t>(stops, 1) && own == padded);
  }
}

}  // namespace

TEST(drawn_steps_want_of_their_logits_what_their_rows_do) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  int64_t steps = 0;
  std::array<int64_t, num_logits_uses> rows{};
  try {
    while (steps < 5000)
      each_step(random, [&](const scheduled_step& step, const driver&) {
        check_sampling(step);
        ++steps;
        for (size_t i = 0; i < num_logits_uses; ++i) rows[i] += step.plan().sampling.shape.rows[i];
      });
  } catch (const std::exception& e) {
    throw failure(cat("seed ", seed, ": ", e.what()));
  }
  for (size_t i = 0; i < num_logits_uses; ++i) CHECK_MSG(rows[i] > 0, names[i]);
}
