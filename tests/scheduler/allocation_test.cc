// A step of single tokens that nobody joins takes nothing from the heap, whatever its requests ask for. What may still
// grow is the list of edits: in a step that has more of them than any before it, to twice as many.
#include <functional>

#include "scheduler/allocations.h"
#include "scheduler/driver.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;
using decode::logprobs_kind;

namespace {

struct kind {
  const char* name;
  std::function<void(drawn_request&)> ask;
};

const kind kinds[] = {
    {"greedy", [](drawn_request&) {}},
    {"greedy, with log-probabilities", [](drawn_request& r) { r.settings.logprobs = logprobs_kind::processed; }},
    {"penalised",
     [](drawn_request& r) {
       r.settings.repetition_penalty = 1.2f;
       r.settings.presence_penalty = 0.1f;
       r.settings.logprobs = logprobs_kind::raw;
     }},
    {"without repeated n-grams",
     [](drawn_request& r) {
       r.settings.no_repeat_ngram_size = 3;
       r.settings.bad_words = {{1, 2}, {3}};
     }},
    {"sampled", [](drawn_request& r) { r.settings.do_sample = true; }},
    {"several samples",
     [](drawn_request& r) {
       r.settings.do_sample = true;
       r.settings.num_return_sequences = 3;
     }},
    {"sampled from the best",
     [](drawn_request& r) {
       r.settings.do_sample = true;
       r.settings.top_k = 5;
       r.settings.top_p = 0.9f;
       r.settings.logprobs = logprobs_kind::processed;
     }},
    {"sampled from the whole row",
     [](drawn_request& r) {
       r.settings.do_sample = true;
       r.settings.typical_p = 0.9f;
       r.settings.logprobs = logprobs_kind::raw;
     }},
    {"asked what may come",
     [](drawn_request& r) {
       r.constrains = true;
       r.steers_one_in = 3;
     }},
    {"asked whether it ends", [](drawn_request& r) { r.stops_one_in = 1 << 30; }},
    {"beams", [](drawn_request& r) { r.settings.num_beams = 3; }},
    {"penalised beams",
     [](drawn_request& r) {
       r.settings.num_beams = 3;
       r.settings.repetition_penalty = 1.2f;
     }},
    {"sampled beams",
     [](drawn_request& r) {
       r.settings.num_beams = 3;
       r.settings.do_sample = true;
       r.settings.logprobs = logprobs_kind::processed;
     }},
    {"diverse beams",
     [](drawn_request& r) {
       r.settings.num_beams = 4;
       r.settings.num_beam_groups = 2;
       r.settings.diversity_penalty = 0.5f;
     }},
    {"beams, asked whether they end",
     [](drawn_request& r) {
       r.settings.num_beams = 2;
       r.stops_one_in = 1 << 30;
     }},
};

// 250 tokens into a text every token of the vocabulary has come, so that no list of edits grows any more; the page
// tables still do.
void check_steady_steps(driver& s, const char* name) {
  int64_t narrowest = 0, widest = 0;
  s.on_launch = [&](const scheduled_step& step) {
    CHECK(step.plan().only_decodes());
    widest = step.plan().table_width();
    if (narrowest == 0) narrowest = widest;
  };
  const size_t unfinished = s.scheduler.unfinished();
  for (int step = 0; step < 400; ++step) {
    const int64_t before = allocations();
    CHECK_EQ(s.step(), unfinished);
    CHECK_MSG(allocations() == before, name, ": ", allocations() - before, " in step ", step);
  }
  CHECK(widest > narrowest);
  s.on_launch = {};
}

}  // namespace

TEST(allocations_are_counted) {
  const int64_t before = allocations();
  ::operator delete(::operator new(1));
  CHECK_EQ(allocations() - before, 1);
  const uncounted here;
  ::operator delete(::operator new(1));
  CHECK_EQ(allocations() - before, 1);
}

TEST(a_steady_step_allocates_nothing) {
  for (bool goes_ahead : {false, true})
    for (const model_limits& limits : {decoder_limits(1000), encoder_decoder_limits(1000)}) {
      const driver_options options{
          .limits = limits, .max_batch_size = 200, .num_pages = 20'000, .goes_ahead = goes_ahead};
      driver together(options);
      for (const kind& k : kinds) {
        driver alone(options);
        for (int i = 0; i < 3; ++i) {
          drawn_request r;
          r.prompt = {1, 2, 3, i};
          r.settings.max_new_tokens = 900;
          r.settings.seed = static_cast<uint64_t>(i);
          k.ask(r);
          alone.submit(r);
          together.submit(r);
        }
        for (int step = 0; step < 250; ++step) alone.step();
        check_steady_steps(alone, k.name);
      }
      for (int step = 0; step < 250; ++step) together.step();
      check_steady_steps(together, "all of them together");
    }
}
