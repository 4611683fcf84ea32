#include "scheduler/fake_worker.h"

#include <algorithm>
#include <limits>
#include <set>

#include "check.h"
#include "core/first_largest.h"
#include "decode/device_choice.h"
#include "runtime/plan/plan_bytes.h"
#include "scheduler/fake_model.h"

namespace ft::test {

using namespace ft::runtime;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int32_t garbage = 0x55555555;

template <class T>
int64_t size_of(const std::vector<T>& v) {
  return static_cast<int64_t>(v.size());
}

struct candidate {
  float logit;  // divided by the temperature
  int32_t token;
};

// The numbers of a row, best first.
std::vector<candidate> sorted(std::span<const float> row, float temperature) {
  std::vector<candidate> all;
  for (size_t i = 0; i < row.size(); ++i)
    if (row[i] == row[i]) all.push_back({row[i] / temperature, static_cast<int32_t>(i)});
  std::ranges::stable_sort(all, [](const candidate& a, const candidate& b) { return a.logit > b.logit; });
  return all;
}

// The first elements of a sorted row that top-k, top-p and min-p leave.
void cut(std::vector<candidate>& left, const sampling_limits& by) {
  std::erase_if(left, [](const candidate& c) { return c.logit == -infinity; });
  if (left.empty()) return;
  const auto weight = [&](const candidate& c) { return std::exp(double{c.logit} - double{left[0].logit}); };
  if (const auto k = static_cast<size_t>(by.top_k); k > 0 && k < left.size())
    while (left.back().logit < left[k - 1].logit) left.pop_back();
  if (by.top_p < 1) {
    double total = 0, mass = 0;
    for (const candidate& c : left) total += weight(c);
    size_t kept = 0;
    while (kept < left.size() && mass < by.top_p) mass += weight(left[kept++]) / total;
    left.resize(std::max<size_t>(kept, 1));
  }
  while (left.size() > 1 && weight(left.back()) < by.min_p) left.pop_back();
}

struct draw {
  int32_t token = -1;
  float log_prob = 0, logit = 0;
};

draw draw_from(std::span<const float> row, std::vector<candidate> left, double uniform) {
  if (left.empty()) {
    const int32_t token = first_largest(row);
    return {token, 0, token < 0 ? NAN : row[static_cast<size_t>(token)]};
  }
  const double highest = left[0].logit;
  std::ranges::sort(left, {}, &candidate::token);
  double sum = 0;
  for (const candidate& c : left) sum += std::exp(c.logit - highest);
  double remaining = uniform * sum;
  draw d;
  double drawn = 0;
  for (const candidate& c : left) {
    drawn = std::exp(c.logit - highest);
    d.token = c.token;
    if ((remaining -= drawn) < 0) break;
  }
  return {d.token, static_cast<float>(std::log(drawn / sum)), row[static_cast<size_t>(d.token)]};
}

}  // namespace

fake_worker::fake_worker(const plan_bounds& bounds)
    : bounds_(bounds),
      page_tokens_(bounds.page_tokens),
      keys_(static_cast<size_t>(bounds.num_pages * bounds.page_tokens)),
      written_(keys_.size(), -1),
      row_(fake_model::vocab) {}

// Through bytes, as to a rank elsewhere: a plan that is executed later holds nothing of the scheduler's.
void fake_worker::launch(const step_plan& plan, bool later) {
  std::vector<std::byte> bytes;
  write_plan(bytes, plan);
  launch(bytes, later);
}

void fake_worker::launch(std::span<const std::byte> bytes, bool later) {
  step_plan plan;
  read_plan(plan, bytes);
  check_bounds(plan, bounds_);
  check_follows(plan, launched_);
  launched_ = plan.sampling;
  queue_.push_back(std::move(plan));
  if (later) return;
  for (; !queue_.empty(); queue_.pop_front()) execute(queue_.front());
}

step_results fake_worker::results(int32_t slot) {
  while (std::ranges::find(queue_, slot, &step_plan::slot) !=
         queue_.end()) {  // one before it nobody may have asked for
    execute(queue_.front());
    queue_.pop_front();
  }
  slot_results& r = results_[slot];
  return {r.shape, fake_model::vocab, r.whole.data(), r.chosen.data(), r.prompt_logprobs};
}

void fake_worker::execute(const step_plan& plan) {
  ++steps_;
  num_tokens_ += plan.num_tokens();
  CHECK(!plan.empty());
  copy_pages(plan);
  encode(plan);
  write_prefixes(plan);
  const row_tables tables = reorder_beams(plan);
  check_groups(plan, tables.pages);
  compute_rows(plan, tables);
  slot_results& to = results_[plan.slot];
  score_prompts(plan, to);
  sample(plan, tables, to);
  chosen_ = to.chosen;
}

// What ops/attention.h asks of shared keys.
void fake_worker::check_groups(const step_plan& p, const std::vector<int32_t>& pages) const {
  const auto width = static_cast<size_t>(p.table_width()), cross_width = static_cast<size_t>(p.cross_table_width());
  for (size_t g = 0; g < p.shared_lengths.size(); ++g) {
    const auto begin = static_cast<size_t>(p.group_offsets[g]), end = static_cast<size_t>(p.group_offsets[g + 1]);
    const int32_t shared = p.shared_lengths[g];
    CHECK(shared % page_tokens_ == 0);
    for (size_t r = begin; r < end; ++r) {
      CHECK(std::equal(&pages[begin * width], &pages[begin * width] + shared / page_tokens_, &pages[r * width]));
      if (cross_width == 0) continue;
      CHECK(std::equal(&p.cross_page_table[begin * cross_width], &p.cross_page_table[begin * cross_width] + cross_width,
                       &p.cross_page_table[r * cross_width]));
    }
  }
}

// What lies behind the copied tokens is undefined: nobody may read it.
void fake_worker::copy_page(int32_t from, int32_t to, int32_t tokens) {
  CHECK(from != to && tokens <= page_tokens_);
  const auto page = [&](int32_t p) { return keys_.begin() + p * page_tokens_; };
  std::copy_n(page(from), tokens, page(to));
  std::fill_n(page(to) + tokens, page_tokens_ - tokens, key{});
}

void fake_worker::write(int32_t slot, const key& k) {
  const auto at = static_cast<size_t>(slot);
  CHECK_MSG(slot >= 0 && at < keys_.size() && written_[at] < steps_, "slot ", slot, " is written twice in a step");
  keys_[at] = k;
  written_[at] = steps_;
}

void fake_worker::copy_pages(const step_plan& p) {
  if (p.copy_from.empty()) return;
  std::set<int32_t> from(p.copy_from.begin(), p.copy_from.end()), to(p.copy_to.begin(), p.copy_to.end());
  CHECK_EQ(to.size(), p.copy_to.size());
  for (int32_t page : to) CHECK(!from.contains(page));
  for (size_t i = 0; i < p.copy_from.size(); ++i) copy_page(p.copy_from[i], p.copy_to[i], p.copy_tokens[i]);
}

void fake_worker::encode(const step_plan& p) {
  const encoder_plan& e = p.sources;
  std::vector<uint64_t> ids;
  for (int32_t token : e.token_ids) {
    CHECK(token >= 0 && token < fake_model::encoder_vocab);
    ids.push_back(fake_model::id_of(token));
  }
  std::span<const float> values(e.embedded.values);
  for (const embedded_span& s : e.embedded.spans)
    for (int32_t i = 0; i < s.count; ++i, values = values.subspan(fake_model::embedding_size))
      ids.at(static_cast<size_t>(s.first_token + i)) = fake_model::id_of(values.first(fake_model::embedding_size));
  CHECK(values.empty());
  for (size_t row = 0; row + 1 < e.row_offsets.size(); ++row) {
    const auto begin = static_cast<size_t>(e.row_offsets[row]), end = static_cast<size_t>(e.row_offsets[row + 1]);
    CHECK(begin < end);
    uint64_t all = fake_model::empty;
    for (size_t t = begin; t < end; ++t) all = fake_model::next(all, ids[t]);
    for (size_t t = begin; t < end; ++t) {
      CHECK_EQ(e.positions[t], static_cast<int32_t>(t - begin));
      write(e.slots[t], {ids[t], all, e.positions[t], true});
    }
  }
}

void fake_worker::write_prefixes(const step_plan& p) {
  std::span<const float> values(p.prefix_values);
  int32_t first = 0;
  for (const prefix_span& prefix : p.prefixes) {
    CHECK_EQ(prefix.first_slot, first);
    const auto own = values.first(2 * static_cast<size_t>(prefix.length));
    uint64_t chain = fake_model::empty;
    for (int32_t position = 0; position < prefix.length; ++position) {
      const uint64_t id = fake_model::id_of_prefix(own, position);
      chain = fake_model::next(chain, id);
      write(p.prefix_slots.at(static_cast<size_t>(first + position)), {id, chain, position, false});
    }
    values = values.subspan(own.size());
    first += prefix.length;
  }
  CHECK(values.empty() && size_of(p.prefix_slots) == first);
}

// follow_beams, by its contract (ops/beams.h).
fake_worker::row_tables fake_worker::reorder_beams(const step_plan& p) {
  row_tables now{p.page_table, p.slots, p.sampling.scores};
  if (!p.reorders_beams()) return now;
  CHECK(p.num_tokens() == p.num_rows());
  const auto rows = static_cast<size_t>(p.num_rows()), width = static_cast<size_t>(p.table_width());
  now.scores.assign(rows, 0);
  struct copy {
    int32_t from, to, tokens;
  };
  std::vector<copy> copies;
  const auto choice_of = [&](size_t row) {
    return *reinterpret_cast<const beam_choice*>(&chosen_.at(static_cast<size_t>(p.place[row])));
  };
  const auto parent_of = [&](size_t row) {
    const int32_t parent = p.place[row] < 0 ? static_cast<int32_t>(row) : p.first[row] + choice_of(row).parent;
    CHECK(parent >= p.first[row] && parent < static_cast<int32_t>(rows) &&
          p.first[static_cast<size_t>(parent)] == p.first[row]);
    return static_cast<size_t>(parent);
  };
  std::set<int32_t> fresh;
  for (size_t row = 0; row < rows; ++row) {
    if (p.place[row] < 0) continue;
    ++reordered_;
    const size_t parent = parent_of(row);
    const auto used = static_cast<int32_t>(p.positions[row] % page_tokens_);
    std::copy_n(p.page_table.begin() + static_cast<std::ptrdiff_t>(parent * width), width,
                now.pages.begin() + static_cast<std::ptrdiff_t>(row * width));
    bool is_first = true;
    for (auto sibling = static_cast<size_t>(p.first[row]); sibling < row; ++sibling)
      is_first &= parent_of(sibling) != parent;
    CHECK(p.fresh[row] >= 0 && fresh.insert(p.fresh[row]).second);
    CHECK(std::ranges::find(p.page_table, p.fresh[row]) == p.page_table.end() || p.fresh[row] == 0);
    int32_t& page = now.pages[row * width + static_cast<size_t>(p.positions[row] / page_tokens_)];
    if (!is_first && used > 0) copies.push_back({page, p.fresh[row], used});
    if (used == 0 || !is_first) page = p.fresh[row];
    now.slots[row] = static_cast<int32_t>(page * page_tokens_) + used;
    now.scores[row] = choice_of(row).score;
  }
  for (const copy& c : copies) copy_page(c.from, c.to, c.tokens);
  return now;
}

void fake_worker::compute_rows(const step_plan& p, const row_tables& tables) {
  std::vector<uint64_t> ids(static_cast<size_t>(p.num_tokens()));
  for (size_t t = 0; t < ids.size(); ++t) {
    int32_t token = p.token_ids[t];
    if (token < 0) token = std::max(0, chosen_.at(static_cast<size_t>(-1 - token)));
    CHECK_MSG(token < fake_model::vocab, "token ", token);
    ids[t] = fake_model::id_of(token);
  }
  std::span<const float> values(p.embedded.values);
  for (const embedded_span& s : p.embedded.spans)
    for (int32_t i = 0; i < s.count; ++i, values = values.subspan(fake_model::embedding_size))
      ids.at(static_cast<size_t>(s.first_token + i)) = fake_model::id_of(values.first(fake_model::embedding_size));
  CHECK(values.empty());

  chains_.assign(ids.size(), 0);
  sources_.assign(ids.size(), 0);
  const int64_t width = p.table_width();
  for (int64_t row = 0; row < p.num_rows(); ++row) {
    const std::span pages =
        std::span(tables.pages).subspan(static_cast<size_t>(row * width), static_cast<size_t>(width));
    for (auto t = static_cast<size_t>(p.row_offsets[static_cast<size_t>(row)]);
         t < static_cast<size_t>(p.row_offsets[static_cast<size_t>(row) + 1]); ++t) {
      const int64_t position = p.positions[t];
      CHECK_EQ(tables.slots[t],
               static_cast<int32_t>(pages[static_cast<size_t>(position / page_tokens_)] * page_tokens_ +
                                    position % page_tokens_));
      const uint64_t before = position > 0 ? key_at(pages, position - 1).chain : fake_model::empty;
      chains_[t] = fake_model::next(before, ids[t]);
      write(tables.slots[t], {ids[t], chains_[t], static_cast<int32_t>(position), false});
    }
  }
  for (int64_t row = 0; row < p.num_rows(); ++row) {
    check_context(p, tables, row);
    const uint64_t source = read_source(p, row);
    for (int32_t t = p.row_offsets[static_cast<size_t>(row)]; t < p.row_offsets[static_cast<size_t>(row) + 1]; ++t)
      sources_[static_cast<size_t>(t)] = source;
  }
}

// Every key that the row sees is the one of its own text and place, after all rows have written theirs.
void fake_worker::check_context(const step_plan& p, const row_tables& tables, int64_t row) const {
  const auto width = static_cast<size_t>(p.table_width());
  const std::span pages = std::span(tables.pages).subspan(static_cast<size_t>(row) * width, width);
  uint64_t chain = fake_model::empty;
  for (int64_t position = 0; position < p.context_lengths[static_cast<size_t>(row)]; ++position) {
    const key& k = key_at(pages, position);
    chain = fake_model::next(chain, k.id);
    CHECK_MSG(k.position == position && k.chain == chain && !k.is_source, "row ", row, " of ", p.num_rows(),
              " reads at position ", position, " what was written for ", k.position);
  }
}

uint64_t fake_worker::read_source(const step_plan& p, int64_t row) const {
  const auto width = static_cast<size_t>(p.cross_table_width());
  if (width == 0) return 0;
  const std::span pages = std::span(p.cross_page_table).subspan(static_cast<size_t>(row) * width, width);
  const int64_t length = p.cross_lengths[static_cast<size_t>(row)];
  CHECK(length > 0);
  const uint64_t all = key_at(pages, 0).chain;
  uint64_t chain = fake_model::empty;
  for (int64_t position = 0; position < length; ++position) {
    const key& k = key_at(pages, position);
    chain = fake_model::next(chain, k.id);
    CHECK(k.position == position && k.chain == all && k.is_source);
  }
  CHECK(chain == all);
  return all;
}

std::span<float> fake_worker::logits_of_token(int32_t token) {
  const auto t = static_cast<size_t>(token);
  fake_model::logits(chains_.at(t), sources_.at(t), row_);
  return row_;
}

void fake_worker::score_prompts(const step_plan& p, slot_results& to) {
  to.prompt_logprobs.assign(p.scored_ids.size(), NAN);
  int32_t first = 0;
  for (const scored_span& s : p.scored) {
    CHECK(s.first_score == first && s.count > 0);
    first += s.count;
    for (int32_t i = 0; i < s.count; ++i) {
      const int32_t id = p.scored_ids.at(static_cast<size_t>(s.first_score + i));
      const std::span row = logits_of_token(s.first_token + i);
      fake_model::log_softmax(row);
      if (id >= 0) to.prompt_logprobs[static_cast<size_t>(s.first_score + i)] = row[static_cast<size_t>(id)];
    }
  }
  CHECK_EQ(first, static_cast<int32_t>(p.scored_ids.size()));
}

// As runtime/worker does it, from the definitions of the operations.
void fake_worker::sample(const step_plan& p, const row_tables& tables, slot_results& to) {
  const sampling_metadata& m = p.sampling;
  const sampling_shape& shape = m.shape;
  const choice_layout at(shape);
  const auto total = static_cast<size_t>(shape.total());
  constexpr size_t vocab = fake_model::vocab;
  to.shape = shape;
  std::vector<float> all(total * vocab);
  const auto row_of = [&](int64_t row) { return std::span(all).subspan(static_cast<size_t>(row) * vocab, vocab); };
  for (size_t row = 0; row < total; ++row) {
    std::ranges::copy(logits_of_token(m.tokens[row]), row_of(static_cast<int64_t>(row)).begin());
    if (shape.rows_with(&use_properties::log_softmax).contains(static_cast<int64_t>(row)))
      fake_model::log_softmax(row_of(static_cast<int64_t>(row)));
  }

  std::set<std::pair<int32_t, int32_t>> edited_ones;
  const auto late_token = [&](size_t row) {
    return shape.num_late > 0 && m.late_edits[row].place >= 0 ? chosen_.at(static_cast<size_t>(m.late_edits[row].place))
                                                              : -1;
  };
  const auto edit = [&](size_t row, int32_t token, int32_t change) {
    CHECK(!shape.rows_with(&use_properties::to_host).contains(static_cast<int64_t>(row)));
    CHECK(edited_ones.emplace(static_cast<int32_t>(row), token).second);
    float& x = row_of(static_cast<int64_t>(row))[static_cast<size_t>(token)];
    x = edited(x, change, m.penalties.at(row));
  };
  for (const logit_edit& e : m.edits) {
    if (e.row < 0) continue;
    const auto row = static_cast<size_t>(e.row);
    edit(row, e.token, late_token(row) == e.token ? joined(e.change, m.late_edits[row].change) : e.change);
  }
  for (size_t row = 0; row < total; ++row)
    if (const int32_t token = late_token(row); token >= 0 && !edited_ones.contains({static_cast<int32_t>(row), token}))
      edit(row, token, m.late_edits[row].change);

  to.chosen.assign(static_cast<size_t>(at.size), garbage);
  const auto put = [&](int64_t place, float x) {
    to.chosen.at(static_cast<size_t>(place)) = std::bit_cast<int32_t>(x);
  };
  const auto k = static_cast<int64_t>(shape.num_candidates);
  for (int64_t i = 0; i < at.candidates.size(); ++i) {
    const std::span row = row_of(at.candidates.begin + i);
    const auto best = sorted(row, 1);
    for (int64_t j = 0; j < k; ++j) {
      const bool there = j < size_of(best);
      put(at.value_at + i * k + j, there ? best[static_cast<size_t>(j)].logit : -infinity);
      to.chosen[static_cast<size_t>(at.index_at + i * k + j)] = there ? best[static_cast<size_t>(j)].token : -1;
    }
    put(at.log_sum_at + i,
        fake_model::log_sum(row, best.empty() ? NAN : best[0].logit, m.temperatures[static_cast<size_t>(i)]));
  }
  const auto value = [&](int64_t place) { return std::bit_cast<float>(to.chosen[static_cast<size_t>(place)]); };
  for (int32_t group = 0; group < shape.num_groups; ++group) {
    const auto g = static_cast<size_t>(group);
    const int32_t begin = m.beam_offsets[g], end = m.beam_offsets[g + 1];
    CHECK(begin < end);
    const std::span stops =
        std::span(m.beam_stops).subspan(g * static_cast<size_t>(shape.num_stops), static_cast<size_t>(shape.num_stops));
    std::vector<beam_choice> found(static_cast<size_t>(end - begin), {0, 0, -infinity});
    for (int32_t beam = begin; beam < end; ++beam) {
      const int64_t i = at.next_beams.begin - at.candidates.begin + beam;
      const float score = tables.scores.at(static_cast<size_t>(m.beam_rows[static_cast<size_t>(beam)]));
      for (int64_t j = 0; j < k; ++j) {
        const int32_t token = to.chosen[static_cast<size_t>(at.index_at + i * k + j)];
        const float s = value(at.value_at + i * k + j) - value(at.value_at + i * k) - value(at.log_sum_at + i) + score;
        if (token >= 0 && s > -infinity && std::ranges::find(stops, token) == stops.end())
          found.push_back({token, beam - begin, s});
      }
    }
    std::ranges::sort(found, [](const beam_choice& a, const beam_choice& b) {
      if (a.score != b.score) return a.score > b.score;
      return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
    });
    for (int32_t beam = begin; beam < end; ++beam)
      *reinterpret_cast<beam_choice*>(&to.chosen.at(static_cast<size_t>(at.next_at + beam * beam_choice_size))) =
          found[static_cast<size_t>(beam - begin)];
  }
  const int64_t first_drawn = at.drawn.begin - at.candidates.begin;  // among the temperatures
  for (int64_t i = 0; i < at.drawn.size(); ++i) {
    const std::span row = row_of(at.drawn.begin + i);
    const float temperature = m.temperatures[static_cast<size_t>(first_drawn + i)];
    std::vector<candidate> left = sorted(row, temperature);
    cut(left, i < size_of(m.thresholds) ? m.thresholds[static_cast<size_t>(i)] : sampling_limits{});
    const draw d = draw_from(row, left, m.uniforms[static_cast<size_t>(i)]);
    to.chosen[static_cast<size_t>(at.token_at + i)] = d.token;
    put(at.log_prob_at + i, d.log_prob);
    put(at.logit_at + i, d.logit);
  }
  for (int64_t i = 0; i < at.best.size(); ++i)
    to.chosen[static_cast<size_t>(at.best_at + i)] = first_largest(row_of(at.best.begin + i));
  // Every place has something in it by now, but for what no one may read.
  to.whole.assign(all.begin(), all.begin() + shape.rows_with(&use_properties::to_host).size() * fake_model::vocab);
}

}  // namespace ft::test
