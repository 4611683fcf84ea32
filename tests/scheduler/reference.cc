#include "scheduler/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "decode/beam_search.h"
#include "decode/processors.h"
#include "decode/sampler.h"
#include "scheduler/fake_model.h"

namespace ft::test {

using namespace ft::runtime;
using decode::logprobs_kind;

namespace {

uint64_t hash_of(std::span<const int32_t> tokens) {
  uint64_t hash = 3;
  for (int32_t token : tokens) hash = mix(hash, static_cast<uint32_t>(token));
  return hash;
}

class direct {
 public:
  direct(const drawn_request& given, const model_limits& limits)
      : given_(given),
        ask_(given.callbacks()),
        settings_(given.settings),
        editor_(limits.vocab_size),
        sampler_(limits.vocab_size) {
    prompt_ = given.prompt;
    ids_of_embeddings(limits);
    const auto length = static_cast<int32_t>(prompt_.size());
    most_new_ =
        std::min<int32_t>(settings_.max_new_tokens, static_cast<int32_t>(limits.max_positions) -
                                                        static_cast<int32_t>(given.soft.prefix_length) - length);
    settings_.max_new_tokens = most_new_;
  }

  expected_request run() {
    result_.prompt_length = static_cast<int64_t>(prompt_.size());
    result_.outputs.resize(static_cast<size_t>(settings_.num_return_sequences));
    for (output& o : result_.outputs) o.score = std::numeric_limits<float>::quiet_NaN();
    score_prompt();
    settings_.uses_beams() ? search() : choose_each();
    return std::move(result_);
  }

 private:
  // Prompts' ids where embeddings stand; an encoder-decoder's own prompt.
  void ids_of_embeddings(const model_limits& limits) {
    const soft_prompt& soft = given_.soft;
    std::vector<uint64_t> ids;
    for (int32_t token : prompt_) ids.push_back(fake_model::id_of(token));
    for (size_t i = 0; i < soft.positions.size(); ++i) {
      const auto at = static_cast<size_t>(soft.positions[i]);
      ids[at] = fake_model::id_of(
          std::span(soft.embeddings).subspan(i * fake_model::embedding_size, fake_model::embedding_size));
      if (!limits.is_encoder_decoder) prompt_[at] = -1;
    }
    for (int64_t p = 0; p < soft.prefix_length; ++p)
      before_ = fake_model::next(before_, fake_model::id_of_prefix(soft.prefix, p));
    if (limits.is_encoder_decoder) {
      source_ = fake_model::empty;
      for (uint64_t id : ids) source_ = fake_model::next(source_, id);
      prompt_ = settings_.decoder_input_ids;
      if (prompt_.empty() || prompt_[0] != limits.decoder_start_token_id)
        prompt_.insert(prompt_.begin(), limits.decoder_start_token_id);
      ids.clear();
      for (int32_t token : prompt_) ids.push_back(fake_model::id_of(token));
    }
    prompt_ids_ = ids;
  }

  uint64_t chain_of(std::span<const int32_t> tokens) const {
    uint64_t chain = before_;
    for (size_t i = 0; i < tokens.size(); ++i)
      chain = fake_model::next(chain, i < prompt_ids_.size() ? prompt_ids_[i] : fake_model::id_of(tokens[i]));
    return chain;
  }
  std::vector<float> logits_after(std::span<const int32_t> tokens) const {
    std::vector<float> row(fake_model::vocab);
    fake_model::logits(chain_of(tokens), source_, row);
    return row;
  }
  void score_prompt() {
    if (!settings_.prompt_logprobs) return;
    result_.prompt_logprobs.assign(prompt_.size(), std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 1; i < prompt_.size(); ++i) {
      std::vector<float> row = logits_after(std::span(prompt_).first(i));
      fake_model::log_softmax(row);
      if (prompt_[i] >= 0) result_.prompt_logprobs[i] = row[static_cast<size_t>(prompt_[i])];
    }
  }

  void process(std::span<float> row, std::span<const int32_t> tokens, std::span<const int32_t> group_tokens = {}) {
    const size_t num_new = tokens.size() - prompt_.size();
    for (int32_t token : group_tokens) row[static_cast<size_t>(token)] -= settings_.diversity_penalty;
    editor_.edit(row, tokens, num_new, settings_);
    if (ask_.constrain_logits) ask_.constrain_logits(tokens, row);
    decode::force_tokens(row, static_cast<int64_t>(tokens.size()), static_cast<int64_t>(num_new), settings_);
    if (ask_.on_logits) ask_.on_logits(tokens, row);
  }
  bool ends(std::span<const int32_t> tokens) const {
    if (std::ranges::find(settings_.stop_token_ids, tokens.back()) != settings_.stop_token_ids.end()) return true;
    return ask_.should_stop && ask_.should_stop(tokens) == FT_STOP;
  }
  // False when the request ends with this token: the callback has cancelled it.
  bool tell(int32_t token, bool& stops) {
    const int told = ask_.on_token ? ask_.on_token(token) : FT_CONTINUE;
    stops = told == FT_STOP;
    if (told == FT_STOP || told == FT_CONTINUE) return true;
    result_.reason = FT_FINISH_CANCELLED;
    return false;
  }

  // Side by side, so that a callback that cancels finds the others as far as they are.
  void choose_each() {
    const auto n = result_.outputs.size();
    std::vector<std::vector<int32_t>> tokens(n, prompt_);
    for (bool any = true; any;) {
      any = false;
      for (size_t i = 0; i < n; ++i) {
        output& out = result_.outputs[i];
        if (out.finish_reason != FT_FINISH_NONE) continue;
        any = true;
        std::vector<float> row = logits_after(tokens[i]), raw = row;
        process(row, tokens[i]);
        const auto said = std::span<const int32_t>(tokens[i]).subspan(prompt_.size());
        decode::sampler::choice choice{};
        if (settings_.do_sample) {
          choice = sampler_.sample(row, settings_, said, settings_.seed + i);
        } else {
          choice.token = decode::argmax(row);
          fake_model::log_softmax(row);
          choice.logprob = row[static_cast<size_t>(choice.token)];
        }
        if (settings_.logprobs == logprobs_kind::raw) {
          fake_model::log_softmax(raw);
          choice.logprob = raw[static_cast<size_t>(choice.token)];
        }
        tokens[i].push_back(choice.token);
        out.tokens.push_back(choice.token);
        if (settings_.logprobs != logprobs_kind::none) out.logprobs.push_back(choice.logprob);
        bool told_to_stop = false;
        if (i == 0 && !tell(choice.token, told_to_stop)) return;
        const bool stopped = ends(tokens[i]) || told_to_stop;
        if (!stopped && static_cast<int32_t>(out.tokens.size()) < most_new_) continue;
        out.finish_reason = stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH;
        if (settings_.logprobs == logprobs_kind::none) continue;
        const double sum = std::accumulate(out.logprobs.begin(), out.logprobs.end(), 0.0);
        out.score = static_cast<float>(sum / std::pow(out.logprobs.size(), double{settings_.length_penalty}));
      }
    }
    result_.reason = result_.outputs[0].finish_reason;
  }

  struct beam {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
  };
  decode::beam_history history_of(const beam& b) const {
    return {std::span(b.tokens).subspan(prompt_.size()), b.logprobs};
  }

  void search() {
    decode::beam_search all(settings_, most_new_);
    std::vector<std::vector<beam>> beams(all.groups().size(), {beam{prompt_, {}}});
    for (int64_t length = 1; !all.done(); ++length) {
      std::vector<int32_t> group_tokens;
      std::vector<decode::beam_history> histories;
      for (size_t g = 0; g < beams.size(); ++g) {
        decode::beam_group& group = all.groups()[g];
        if (group.done()) continue;
        for (size_t b = 0; b < beams[g].size(); ++b) {
          std::vector<float> row = logits_after(beams[g][b].tokens);
          fake_model::log_softmax(row);
          const std::vector<float> raw = row;
          process(row, beams[g][b].tokens, group_tokens);
          const size_t stops = settings_.stop_token_ids.size();
          if (settings_.do_sample)
            sampler_.warp(row, settings_, std::span<const int32_t>(beams[g][b].tokens).subspan(prompt_.size()),
                          stops ? stops + 1 : 2);
          group.offer(b, row, settings_.logprobs == logprobs_kind::raw ? raw : row, length);
        }
        group.advance(
            length,
            [&](int32_t b, int32_t token) {
              std::vector<int32_t> tokens = beams[g][static_cast<size_t>(b)].tokens;
              tokens.push_back(token);
              return ends(tokens);
            },
            [&](int32_t b) { return history_of(beams[g][static_cast<size_t>(b)]); });
        std::vector<beam> next;
        for (const decode::continuation& c : group.running()) {
          next.push_back(beams[g][static_cast<size_t>(c.parent)]);
          next.back().tokens.push_back(c.token);
          if (settings_.logprobs != logprobs_kind::none) next.back().logprobs.push_back(c.logprob);
        }
        beams[g] = std::move(next);
        if (settings_.diversity_penalty > 0)
          group_tokens.insert(group_tokens.end(), group.chosen().begin(), group.chosen().end());
      }
      for (const auto& group : beams)
        for (const beam& b : group) histories.push_back(history_of(b));
      if (all.done()) break;
      const std::vector<int32_t> first(histories[0].tokens.begin(), histories[0].tokens.end());
      if (!tell_settled(std::span(first).first(all.settled(histories)))) return;
    }
    const auto best = all.best();
    if (!tell_settled(best[0]->tokens)) return;
    result_.outputs.resize(best.size());
    for (size_t i = 0; i < best.size(); ++i)
      result_.outputs[i] = {best[i]->tokens, best[i]->logprobs, best[i]->score,
                            best[i]->stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH};
    result_.reason = result_.outputs[0].finish_reason;
  }
  // False when the request ends here.
  bool tell_settled(std::span<const int32_t> tokens) {
    std::vector<int32_t>& said = result_.outputs[0].tokens;
    while (said.size() < tokens.size()) {
      said.push_back(tokens[said.size()]);
      bool stops = false;
      if (!tell(said.back(), stops)) return false;
      if (!stops) continue;
      result_.reason = FT_FINISH_STOP;
      return false;
    }
    return true;
  }

  const drawn_request& given_;
  const request_callbacks ask_;
  decode::options settings_;
  decode::logit_editor editor_;
  decode::sampler sampler_;
  std::vector<int32_t> prompt_;
  std::vector<uint64_t> prompt_ids_;
  uint64_t before_ = fake_model::empty, source_ = 0;
  int32_t most_new_ = 0;
  expected_request result_;
};

}  // namespace

request_callbacks drawn_request::callbacks() const {
  request_callbacks c;
  if (stops_one_in > 0)
    c.should_stop = [n = stops_one_in](std::span<const int32_t> tokens) {
      return hash_of(tokens) % static_cast<uint64_t>(n) == 0 ? FT_STOP : FT_CONTINUE;
    };
  if (constrains)
    c.constrain_logits = [](std::span<const int32_t> tokens, std::span<float> logits) {
      for (size_t i = hash_of(tokens) % 3; i < logits.size(); i += 3)
        logits[i] = -std::numeric_limits<float>::infinity();
      return FT_CONTINUE;
    };
  if (steers_one_in > 0)
    c.on_logits = [n = steers_one_in](std::span<const int32_t> tokens, std::span<float> logits) {
      const uint64_t hash = hash_of(tokens);
      if (hash % static_cast<uint64_t>(n) == 0) logits[hash / 7 % logits.size()] = 3;
      return FT_CONTINUE;
    };
  if (stop_after > 0 || cancel_after > 0)
    c.on_token = [stop = stop_after, cancel = cancel_after, seen = 0](int32_t) mutable {
      ++seen;
      return seen == cancel ? -7 : seen == stop ? FT_STOP : FT_CONTINUE;
    };
  return c;
}

expected_request compute_directly(const drawn_request& r, const model_limits& limits) {
  return direct(r, limits).run();
}

}  // namespace ft::test
