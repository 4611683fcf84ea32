// What a step's plan says of rows whose requests are known: by hand, and compared with a plain reckoning for drawn
// ones.
#include "runtime/scheduler/scheduled_step.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "scheduler/composer.h"
#include "scheduler/drawn_workload.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

decode::options samples(int32_t count) {
  decode::options o;
  o.do_sample = true;
  o.num_return_sequences = count;
  return o;
}
decode::options beams(int32_t count) {
  decode::options o;
  o.num_beams = count;
  return o;
}

bool same(const std::vector<embedded_span>& a, std::vector<std::pair<int32_t, int32_t>> b) {
  return std::ranges::equal(
      a, b, [](const embedded_span& s, const auto& p) { return s.first_token == p.first && s.count == p.second; });
}

}  // namespace

TEST(a_prompt_comes_in_chunks_and_logits_follow_the_last) {
  composer c;
  const auto a = c.make({11, 12, 13, 14, 15, 16}), b = c.make({21, 22});
  c.add(a, 5);
  c.add(b, 2);
  const step_plan& p = c.finish();
  CHECK(p.token_ids == (ints{11, 12, 13, 14, 15, 21, 22}));
  CHECK(p.positions == (ints{0, 1, 2, 3, 4, 0, 1}));
  CHECK(p.slots == (ints{0, 1, 2, 3, 4, 8, 9}));  // pages 0 and 1, and 2
  CHECK(p.row_offsets == (ints{0, 5, 7}));
  CHECK(p.context_lengths == (ints{5, 2}));
  CHECK(p.page_table == (ints{0, 1, 0, 0, 2, 0, 0, 0}));
  CHECK(p.sampling.tokens == ints{6});
  CHECK_EQ(a->sequences[0].logits_row, -1);
  CHECK_EQ(b->sequences[0].logits_row, 0);
  CHECK(!p.only_decodes() && p.group_offsets.empty() && p.copy_from.empty() && p.place.empty() && p.first.empty());

  c.next_step();
  b->sequences[0].append(23);
  c.add(b);
  c.add(a, 1);
  const step_plan& q = c.finish();
  CHECK(q.token_ids == (ints{23, 16}) && q.positions == (ints{2, 5}) && q.slots == (ints{10, 5}));
  CHECK(q.row_offsets == (ints{0, 1, 2}) && q.context_lengths == (ints{3, 6}));
  CHECK(q.page_table == (ints{2, 0, 0, 0, 0, 1, 0, 0}));
  CHECK(q.sampling.tokens == (ints{0, 1}));
  CHECK(q.only_decodes());
}

TEST(a_page_table_is_as_wide_as_sixteen_pages_or_a_row_at_most) {
  for (int64_t most : {2, 16, 20, 40}) {
    composer c;
    c.most_pages = most;
    const auto a = c.make(ints(8, 1)), b = c.make(ints(70, 1));
    c.add(a, 8);
    CHECK_EQ(c.finish().table_width(), std::min<int64_t>(most, 16));
    if (most < 20) continue;
    c.next_step();
    c.add(b, 70);  // 18 pages
    CHECK_EQ(c.finish().table_width(), std::min<int64_t>(most, 32));
  }
}

TEST(a_shared_page_is_copied_before_it_is_written_to) {
  composer c;
  const auto a = c.make_decoding({1, 2, 3, 4, 5, 6}, {7, 8, 9}, samples(3));  // pages 0 and 1, of which 1 has room
  for (size_t i = 0; i < 3; ++i) c.add(a, 1, i);
  const step_plan& p = c.finish();
  CHECK(p.copy_from == (ints{1, 1}) && p.copy_to == (ints{2, 3}) && p.copy_tokens == (ints{2, 2}));
  CHECK(p.page_table == (ints{0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0}));  // the last has it to itself by then
  CHECK(p.slots == (ints{10, 14, 6}) && p.positions == (ints{6, 6, 6}));
  CHECK(c.pages.shared(0) && !c.pages.shared(1));

  // A page that no token has been written to is nobody's yet.
  composer full;
  const auto b = full.make_decoding({1, 2, 3, 4}, {7, 8}, samples(2));
  for (size_t i = 0; i < 2; ++i) full.add(b, 1, i);
  CHECK(full.finish().copy_from.empty());
  CHECK(full.step.plan().page_table == (ints{0, 1, 0, 0, 0, 2, 0, 0}));
}

TEST(neighbours_of_one_request_are_a_group_with_the_pages_they_share) {
  composer c;
  const auto a = c.make_decoding({1, 2, 3, 4, 5, 6, 7, 8, 9}, {7, 8, 9}, samples(3));  // two full pages
  const auto b = c.make_decoding({1, 2, 3, 4, 5}, {7});
  const auto d = c.make_decoding({1, 2}, {7, 8}, samples(2));
  for (size_t i = 0; i < 3; ++i) c.add(a, 1, i);
  c.add(b);
  for (size_t i = 0; i < 2; ++i) c.add(d, 1, i);
  const step_plan& p = c.finish();
  CHECK(p.group_offsets == (ints{0, 3, 4, 6}));
  CHECK(p.shared_lengths == (ints{8, 4, 0}));  // one row shares its earlier full pages with itself
  CHECK(p.cross_shared_lengths.empty());
  CHECK_EQ(p.widest_group, 3);
  CHECK((p.shape() == decode_shape{6, 4, 0, 3, 3, 6, false}));

  // Not where each row is another request's, nor beside a prompt.
  composer single;
  single.add(single.make_decoding({1, 2}, {7}));
  single.add(single.make_decoding({1, 2}, {7}));
  CHECK(single.finish().group_offsets.empty() && single.step.plan().widest_group == 0);
  composer mixed;
  const auto e = mixed.make_decoding({1, 2}, {7, 8}, samples(2));
  for (size_t i = 0; i < 2; ++i) mixed.add(e, 1, i);
  mixed.add(mixed.make({1, 2, 3}), 3);
  CHECK(mixed.finish().group_offsets.empty() && mixed.step.plan().shared_lengths.empty());
}

TEST(embeddings_are_spans_of_the_steps_tokens) {
  composer c;
  soft_prompt soft{.positions = {1, 2, 4}, .embeddings = {10, 11, 20, 21, 40, 41}};
  const auto before = c.make({7, 8}), a = c.make({1, 2, 3, 4, 5}, {}, soft);
  c.add(before, 2);
  c.add(a, 2);
  const step_plan& p = c.finish();
  CHECK(p.token_ids == (ints{7, 8, 1, 0}));
  CHECK(same(p.embedded.spans, {{3, 1}}) && p.embedded.values == (floats{10, 11}));
  c.next_step();
  c.add(a, 3);
  const step_plan& q = c.finish();
  CHECK(q.token_ids == (ints{0, 4, 0}));
  CHECK(same(q.embedded.spans, {{0, 1}, {2, 1}}) && q.embedded.values == (floats{20, 21, 40, 41}));

  composer whole;
  const auto b = whole.make({1, 2, 3, 4, 5}, {}, soft), e = whole.make({1, 2, 3, 4, 5}, {}, soft);
  whole.add(b, 5);
  whole.add(e, 5);
  const step_plan& r = whole.finish();
  CHECK(same(r.embedded.spans, {{1, 2}, {4, 1}, {6, 2}, {9, 1}}));
  CHECK(r.embedded.values == (floats{10, 11, 20, 21, 40, 41, 10, 11, 20, 21, 40, 41}));
}

TEST(a_prefix_takes_the_first_slots_and_moves_every_position) {
  composer c;
  soft_prompt soft{.prefix_length = 5, .prefix = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
  const auto a = c.make({11, 12, 13}, {}, soft);
  c.add(a, 2);
  const step_plan& p = c.finish();
  CHECK_EQ(p.prefixes.size(), size_t{1});
  CHECK(p.prefixes[0].first_slot == 0 && p.prefixes[0].length == 5);
  CHECK(p.prefix_slots == (ints{0, 1, 2, 3, 4}) && p.prefix_values == soft.prefix);
  CHECK(p.token_ids == (ints{11, 12}) && p.positions == (ints{5, 6}) && p.slots == (ints{5, 6}));
  CHECK(p.context_lengths == ints{7});
  c.next_step();
  const auto b = c.make({21}, {}, soft);
  c.add(a, 1);
  c.add(b, 1);
  const step_plan& q = c.finish();
  CHECK(q.positions == (ints{7, 5}) && q.slots == (ints{7, 13}) && q.context_lengths == (ints{8, 6}));
  CHECK(q.prefixes.size() == 1 && q.prefix_slots == (ints{8, 9, 10, 11, 12}));  // of the one that begins
}

TEST(each_prompt_token_that_another_precedes_is_scored_once) {
  composer c;
  decode::options o;
  o.prompt_logprobs = true;
  soft_prompt soft{.positions = {2}, .embeddings = {1, 2}};
  const auto a = c.make({11, 12, 13, 14}, o, soft), b = c.make({21, 22}, o), alone = c.make({31}, o),
             unscored = c.make({9, 8});
  c.add(unscored, 2);
  c.add(a, 2);
  c.add(b, 2);
  c.add(alone, 1);
  const step_plan& p = c.finish();
  CHECK_EQ(p.scored.size(), size_t{2});
  CHECK(p.scored[0].first_token == 2 && p.scored[0].first_score == 0 && p.scored[0].count == 2);
  CHECK(p.scored[1].first_token == 4 && p.scored[1].first_score == 2 && p.scored[1].count == 1);
  CHECK(p.scored_ids == (ints{12, -1, 22}));
  std::vector<std::pair<scheduled_request*, int64_t>> found;
  c.step.each_scored([&](scheduled_request& r, int64_t first, const scored_span&) { found.push_back({&r, first}); });
  CHECK(found == (decltype(found){{a.get(), 1}, {b.get(), 1}}));
  c.next_step();
  b->sequences[0].append(23);
  c.add(b);
  c.add(a, 2);
  const step_plan& q = c.finish();
  CHECK(q.scored.size() == 1 && q.scored[0].first_token == 1 && q.scored[0].count == 1);
  CHECK(q.scored_ids == ints{14});
  found.clear();
  c.step.each_scored([&](scheduled_request& r, int64_t first, const scored_span&) { found.push_back({&r, first}); });
  CHECK(found == (decltype(found){{a.get(), 3}}));
}

TEST(a_source_has_pages_of_its_own_that_its_rows_read) {
  composer c{.limits = encoder_decoder_limits()};
  soft_prompt soft{.positions = {1}, .embeddings = {5, 6}};
  const auto a = c.make({41, 42, 43, 44, 45}, samples(2), soft), b = c.make({46});
  c.step.add_source(*a, c.pages);
  c.step.add_source(*b, c.pages);
  c.add(a);
  const step_plan& p = c.finish();
  CHECK(p.sources.token_ids == (ints{41, 0, 43, 44, 45, 46}));
  CHECK(p.sources.positions == (ints{0, 1, 2, 3, 4, 0}));
  CHECK(p.sources.slots == (ints{0, 1, 2, 3, 4, 8}));
  CHECK(p.sources.row_offsets == (ints{0, 5, 6}));
  CHECK(same(p.sources.embedded.spans, {{1, 1}}) && p.sources.embedded.values == (floats{5, 6}));
  CHECK(p.embedded.empty());
  CHECK(p.token_ids == ints{2} && p.positions == ints{0} && p.slots == ints{12});
  CHECK(p.cross_page_table == (ints{0, 1, 0, 0}) && p.cross_lengths == ints{5});
  CHECK(c.step.source_requests().size() == 2 && c.step.requests().size() == 1);
  c.next_step();

  a->sequences[1].fork(a->sequences[0], c.pages);
  a->num_live = 2;
  for (sequence& s : a->live()) s.append(7);
  c.add(a, 1, 0);
  c.add(a, 1, 1);
  c.add(b);
  const step_plan& q = c.finish();
  CHECK(q.sources.empty());
  CHECK(q.cross_page_table == (ints{0, 1, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0}) && q.cross_lengths == (ints{5, 5, 1}));
  CHECK(q.group_offsets == (ints{0, 2, 3}) && q.cross_shared_lengths == (ints{5, 1}));

  composer decoder;
  decoder.add(decoder.make({1}));
  CHECK(decoder.finish().cross_page_table.empty() && decoder.step.plan().cross_lengths.empty());
}

// The device finds out which beam goes on from which, and writes to the fresh page where that is one of its own.
TEST(beams_yet_to_be_chosen_take_a_page_and_say_where_their_choice_lies) {
  composer c;
  const auto before = c.make_decoding({1}, {2}), a = c.make_decoding({1, 2, 3, 4, 5}, {6, 7}, beams(2));
  const auto add = [&] {
    c.add(before);
    for (size_t i = 0; i < 2; ++i) c.add(a, 1, i);
  };
  add();
  const step_plan& p = c.finish();
  CHECK(p.place.empty() && p.first.empty() && p.fresh.empty() && !p.reorders_beams());
  CHECK(p.sampling.scores == (floats{0, -1, -2}));
  CHECK(p.page_table == (ints{0, 0, 0, 0, 1, 3, 0, 0, 1, 2, 0, 0}));
  CHECK(p.copy_from == ints{2} && p.copy_to == ints{3} && p.copy_tokens == ints{1});

  c.next_step();
  before->sequences[0].chosen_at = 30;
  a->sequences[0].chosen_at = 10;
  a->sequences[1].chosen_at = 13;
  add();
  const step_plan& q = c.finish();
  CHECK(q.token_ids == (ints{-31, -11, -14}) && q.positions == (ints{2, 6, 6}) && q.context_lengths == (ints{3, 7, 7}));
  CHECK(q.place == (ints{-1, 10, 13}) && q.first == (ints{0, 1, 1}) && q.fresh == (ints{-1, 4, 5}));
  CHECK(q.slots == (ints{2, 0, 0}) && q.copy_from.empty() && q.sampling.scores.empty());
  CHECK(q.page_table == p.page_table && q.reorders_beams());
  CHECK(a->sequences[0].fresh_page == 4 && a->sequences[1].fresh_page == 5);
}

TEST(a_cleared_step_is_as_a_new_one) {
  composer c;
  decode::options o;
  o.prompt_logprobs = true;
  const auto a = c.make({1, 2, 3}, o, {.positions = {1}, .embeddings = {1, 2}, .prefix_length = 1, .prefix = {1, 2}});
  const auto b = c.make_decoding({1, 2, 3, 4, 5}, {6, 7}, beams(2));
  c.add(a, 3);
  for (size_t i = 0; i < 2; ++i) c.add(b, 1, i);
  c.finish();
  c.step.clear();
  CHECK(c.step.empty() && c.step.requests().empty());
  step_plan::visit_arrays(c.step.plan(), [](const char* name, const auto& array) {
    CHECK_MSG(array.size() == (std::string_view(name) == "row_offsets" ? 1u : 0u), name);
  });
  CHECK(c.step.plan().shape() == step_plan{}.shape());
  int rows = 0;
  c.step.each_row([&](const scheduled_request&, const sequence&) { ++rows; });
  c.step.each_scored([&](const scheduled_request&, int64_t, const scored_span&) { ++rows; });
  CHECK_EQ(rows, 0);
}

namespace {

// Of each token that has one, its embedding, in order; no span begins where another ends.
std::map<int32_t, floats> embeddings_of(const embedded_tokens& e) {
  std::map<int32_t, floats> found;
  auto from = e.values.begin();
  int32_t end = -1;
  for (const embedded_span& s : e.spans) {
    CHECK(s.first_token > end);
    end = s.first_token + s.count;
    for (int32_t t = s.first_token; t < end; ++t, from += fake_model::embedding_size)
      found[t] = floats(from, from + fake_model::embedding_size);
  }
  return found;
}

// A plan's rows by the definitions, from what their requests are before the step.
struct reckoned {
  int64_t page_tokens;
  ints token_ids, positions, slots, row_offsets{0}, context_lengths, cross_lengths;
  ints source_ids, source_positions, source_slots, source_offsets{0};
  ints prefix_slots, scored_ids, scored_tokens;
  floats prefix_values;
  std::map<int32_t, floats> embedded, source_embedded;
  std::vector<ints> pages, source_pages;
  std::vector<const scheduled_request*> owners;

  int32_t slot(const ints& of, int64_t position) const {
    return static_cast<int32_t>(of.at(static_cast<size_t>(position / page_tokens)) * page_tokens +
                                position % page_tokens);
  }
  static void embed(std::map<int32_t, floats>& to, const soft_prompt& soft, int64_t index, size_t token) {
    for (size_t i = 0; i < soft.positions.size(); ++i)
      if (soft.positions[i] == index)
        to[static_cast<int32_t>(token)] = {soft.embeddings[2 * i], soft.embeddings[2 * i + 1]};
  }

  void add_source(const scheduled_request& r) {
    for (int64_t i = 0; i < r.source_length(); ++i) {
      embed(source_embedded, r.soft, i, source_ids.size());
      source_ids.push_back(r.source[static_cast<size_t>(i)]);
      source_positions.push_back(static_cast<int32_t>(i));
      source_slots.push_back(slot(r.source_pages, i));
    }
    source_offsets.push_back(static_cast<int32_t>(source_ids.size()));
  }

  void add_row(const scheduled_request& r, const sequence& s) {
    const int64_t prefix = r.soft.prefix_length;
    const bool is_reordered = s.fresh_page >= 0;
    if (s.computed == 0)
      for (int64_t i = 0; i < prefix; ++i) prefix_slots.push_back(slot(s.pages, i));
    if (s.computed == 0) prefix_values.insert(prefix_values.end(), r.soft.prefix.begin(), r.soft.prefix.end());
    for (int64_t i = s.computed; i < s.computed + s.scheduled; ++i) {
      const bool is_known = i < static_cast<int64_t>(s.tokens.size());
      const int32_t token = is_known ? s.tokens[static_cast<size_t>(i)] : -1 - s.chosen_at;
      if (!r.is_two_sided()) embed(embedded, r.soft, i, token_ids.size());
      if (r.settings().prompt_logprobs && i + 1 < r.prompt_length()) {
        scored_tokens.push_back(static_cast<int32_t>(token_ids.size()));
        scored_ids.push_back(s.tokens[static_cast<size_t>(i) + 1]);
      }
      token_ids.push_back(is_known && token < 0 ? 0 : token);
      positions.push_back(static_cast<int32_t>(prefix + i));
      slots.push_back(is_reordered ? 0 : slot(s.pages, prefix + i));
    }
    row_offsets.push_back(static_cast<int32_t>(token_ids.size()));
    context_lengths.push_back(static_cast<int32_t>(prefix + s.computed + s.scheduled));
    if (r.is_two_sided()) cross_lengths.push_back(static_cast<int32_t>(r.source.size()));
    pages.push_back(s.pages);
    source_pages.push_back(r.source_pages);
    owners.push_back(&r);
  }
};

bool holds_rows(const ints& table, int64_t width, const std::vector<ints>& rows) {
  if (table.size() != rows.size() * static_cast<size_t>(width)) return false;
  for (size_t r = 0; r < rows.size(); ++r) {
    ints padded = rows[r];
    padded.resize(std::max(padded.size(), static_cast<size_t>(width)));
    if (!std::ranges::equal(padded,
                            std::span(table).subspan(r * static_cast<size_t>(width), static_cast<size_t>(width))))
      return false;
  }
  return true;
}

// Of rows of one token each, where some request has several: all pages that every row of it has alike and that end
// before the step's own token.
void check_groups(const step_plan& p, const reckoned& want) {
  const size_t rows = want.pages.size();
  const std::set<const scheduled_request*> owners(want.owners.begin(), want.owners.end());
  if (want.token_ids.size() != rows || owners.size() == rows) return CHECK(p.group_offsets.empty());
  ints offsets, lengths, cross;
  int64_t widest = 0;
  for (size_t first = 0; first < rows;) {
    size_t end = first;
    while (end < rows && want.owners[end] == want.owners[first]) ++end;
    const auto is_shared = [&](size_t page) {
      for (size_t r = first; r < end; ++r)
        if (page >= want.pages[r].size() || want.pages[r][page] != want.pages[first][page] ||
            static_cast<int64_t>(page + 1) * want.page_tokens >= want.context_lengths[r])
          return false;
      return true;
    };
    size_t shared = 0;
    while (is_shared(shared)) ++shared;
    offsets.push_back(static_cast<int32_t>(first));
    lengths.push_back(static_cast<int32_t>(static_cast<int64_t>(shared) * want.page_tokens));
    if (!want.cross_lengths.empty()) cross.push_back(want.cross_lengths[first]);
    widest = std::max(widest, static_cast<int64_t>(end - first));
    first = end;
  }
  offsets.push_back(static_cast<int32_t>(rows));
  CHECK(p.group_offsets == offsets && p.shared_lengths == lengths && p.cross_shared_lengths == cross);
  CHECK_EQ(p.widest_group, widest);
}

// A page that a row writes to is in no other row's table, and has the tokens before in it: by a copy where it is new.
void check_copies(const step_plan& p, const reckoned& want) {
  std::map<int32_t, int> holders;
  for (const ints& row : want.pages)
    for (int32_t page : row) ++holders[page];
  for (size_t r = 0; r < want.pages.size(); ++r) {
    if (p.reorders_beams() && p.place[r] >= 0) continue;
    for (int32_t t = want.row_offsets[r]; t < want.row_offsets[r + 1]; ++t)
      CHECK_EQ(holders.at(static_cast<int32_t>(want.slots[static_cast<size_t>(t)] / want.page_tokens)), 1);
  }
  for (size_t i = 0; i < p.copy_to.size(); ++i) {
    size_t writers = 0;
    for (size_t r = 0; r < want.pages.size(); ++r) {
      const auto first = static_cast<size_t>(want.row_offsets[r]);
      if (want.slots[first] / want.page_tokens != p.copy_to[i]) continue;
      ++writers;
      CHECK_EQ(p.copy_tokens[i], static_cast<int32_t>(want.slots[first] % want.page_tokens));
    }
    CHECK_EQ(writers, size_t{1});
  }
}

void check_step(const scheduled_step& step, int64_t page_tokens) {
  const step_plan& p = step.plan();
  reckoned want{.page_tokens = page_tokens};
  for (const scheduled_request* r : step.source_requests()) want.add_source(*r);
  step.each_row([&](const scheduled_request& r, const sequence& s) { want.add_row(r, s); });
  CHECK(p.token_ids == want.token_ids && p.positions == want.positions && p.slots == want.slots);
  CHECK(p.row_offsets == want.row_offsets && p.context_lengths == want.context_lengths);
  CHECK(holds_rows(p.page_table, p.table_width(), want.pages));
  CHECK(p.cross_lengths == want.cross_lengths);
  CHECK(holds_rows(p.cross_page_table, p.cross_table_width(), want.source_pages));
  CHECK(p.sources.token_ids == want.source_ids && p.sources.positions == want.source_positions);
  CHECK(p.sources.slots == want.source_slots && p.sources.row_offsets == want.source_offsets);
  CHECK(embeddings_of(p.embedded) == want.embedded && embeddings_of(p.sources.embedded) == want.source_embedded);
  CHECK(p.prefix_slots == want.prefix_slots && p.prefix_values == want.prefix_values);
  CHECK(p.scored_ids == want.scored_ids);
  ints scored_tokens;
  for (const scored_span& s : p.scored)
    for (int32_t i = 0; i < s.count; ++i) scored_tokens.push_back(s.first_token + i);
  CHECK(scored_tokens == want.scored_tokens);
  check_groups(p, want);
  check_copies(p, want);
  std::vector<const scheduled_request*> requests;
  for (const scheduled_request* r : want.owners)
    if (requests.empty() || requests.back() != r) requests.push_back(r);
  CHECK(std::ranges::equal(step.requests(), requests));
}

}  // namespace

TEST(drawn_steps_are_what_their_rows_are) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  int64_t steps = 0, grouped = 0, copied = 0, reordered = 0;
  try {
    while (steps < 5000)
      each_step(random, [&](const scheduled_step& step, const driver& d) {
        check_step(step, d.options.page_tokens);
        ++steps;
        grouped += step.plan().widest_group > 0;
        copied += !step.plan().copy_from.empty();
        reordered += step.plan().reorders_beams();
      });
  } catch (const std::exception& e) {
    throw failure(cat("seed ", seed, ": ", e.what()));
  }
  CHECK(grouped > 0 && copied > 0 && reordered > 0);
}
