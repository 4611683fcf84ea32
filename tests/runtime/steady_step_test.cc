// What a step asks of a device that computes beside the host: once its shape is known, one upload, one download, no
// allocation and nobody waiting, recorded and ahead of the step before it. And no launch takes memory, whatever runs.
#include <map>
#include <random>

#include "archs/model_fixture.h"
#include "archs/tiny_configs.h"
#include "queueing_device.h"
#include "runtime/drawn_requests.h"
#include "runtime/forward/forward.h"
#include "runtime/session.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

std::shared_ptr<model> open_on(const checkpoint_builder& files, backend& device) {
  auto source = files.open();
  placement where = placement::on(device);
  where.from = {std::shared_ptr<void>(), &device.device_memory()};
  return model::of_ranks(source, exact, load_worker(*source, std::move(where), 1, exact), {});
}

struct queued_model {
  explicit queued_model(const std::string& config) : files(config) {
    files.add_all();
    of = open_on(files, device);
    on_cpu = open_on(files, cpu_backend());
  }
  checkpoint_builder files;
  queueing_device device;
  std::shared_ptr<model> of, on_cpu;
};

const std::vector<std::pair<const char*, std::string>> kinds = {
    {"llama", decoders[0]},  {"gemma2", decoders[5]},     {"gptj", decoders[8]},
    {"bloom", decoders[14]}, {"t5", encoder_decoders[0]}, {"bart", encoder_decoders[2]}};

decode::options draw_settings(std::mt19937& random) {
  decode::options o;
  o.max_new_tokens = static_cast<int32_t>(1 + random() % 40);
  o.seed = random();
  switch (random() % 6) {
    case 0:
      break;
    case 1:
      o.do_sample = true;
      if (random() % 2) o.top_k = 20;
      if (random() % 2) o.top_p = 0.8;
      break;
    case 2:
      o.num_beams = static_cast<int32_t>(2 + random() % 3);
      break;
    case 3:
      o.repetition_penalty = 1.3;
      break;
    case 4:
      o.do_sample = true;
      o.num_return_sequences = 3;
      break;
    default:
      o.logprobs = decode::logprobs_kind::processed;
      o.no_repeat_ngram_size = 3;  // which the host decides
  }
  return o;
}

std::vector<float> floats(const owned_tensor& t) {
  const auto* first = t.view.as<const float>();
  return {first, first + t.view.size()};
}

}  // namespace

TEST(a_device_beside_the_host_generates_what_the_cpu_does_and_no_launch_takes_memory) {
  uint32_t seed = std::random_device{}();
  for (const auto& [name, config] : kinds) {
    queued_model m(config);
    session_stats queued, direct;
    for (int round = 0; round < 3; ++round) {
      ++seed;
      const auto got = run_drawn(m.of, seed, 20, draw_settings, {}, queued);
      const auto wanted = run_drawn(m.on_cpu, seed, 20, draw_settings, {}, direct);
      for (size_t r = 0; r < wanted.size(); ++r) {
        CHECK_EQ(got[r].size(), wanted[r].size());
        for (size_t i = 0; i < wanted[r].size(); ++i)
          CHECK_MSG(got[r][i].tokens == wanted[r][i].tokens, name, ", seed ", seed, ", request ", r);
      }
    }
    CHECK_EQ(m.device.allocating_launches(), 0);
    CHECK(m.device.rehearsals() > 0 && queued.steps_ahead > 0 && queued.steps_replayed > 0);
  }
}

TEST(a_steady_step_is_one_upload_one_download_and_nothing_else_of_the_host) {
  for (const auto& [name, config] : kinds)
    for (int kind = 0; kind < 3; ++kind) {  // greedy, sampled, beams
      queued_model m(config);
      auto s = session::create(m.of, {.max_batch_size = 8});
      decode::options o;
      o.max_new_tokens = 60;
      if (kind == 1) o.do_sample = true, o.top_k = 10, o.repetition_penalty = 1.2;
      if (kind == 2) o.num_beams = 3;
      std::vector<std::shared_ptr<scheduled_request>> requests;
      for (int i = 0; i < 2; ++i) {
        requests.push_back(s->prepare(std::vector<int32_t>{4, 5 + i, 6}, o, {}));
        s->submit(requests.back());
      }
      // One length of tables is left for the next after 16 tokens: whole such lengths are steady but for their first
      // two steps, which are run and recorded.
      for (int i = 0; i < 18; ++i) s->step();
      for (int i = 0; i < 6; ++i) s->step();
      m.device.passes();
      const session_stats before = s->stats();
      constexpr int steps = 5;
      for (int i = 0; i < steps; ++i) s->step();
      const session_stats after = s->stats();
      const auto passes = m.device.passes();
      CHECK_EQ(after.steps_ahead - before.steps_ahead, steps);
      CHECK_EQ(after.steps_replayed - before.steps_replayed, steps);
      CHECK_EQ(after.allocations, before.allocations);
      CHECK_EQ(passes.size(), size_t{steps});
      // Beams that the device has chosen are reordered by arrays of their own, before the step's.
      const int extra = kind == 2;
      for (const queueing_device::pass& p : passes) {
        CHECK_EQ(p.uploads, 1 + extra);
        CHECK_EQ(p.downloads, 1);
        CHECK_EQ(p.replays, 2);
        CHECK_EQ(p.operations, 2 * extra);
        CHECK_EQ(p.copies + p.waits + p.allocations, 0);
      }
      for (const auto& r : requests) {
        s->wait(*r);
        CHECK_MSG(r->status() == FT_OK, name, ": ", r->message());
      }
      s->close();
    }
}

TEST(batches_that_are_padded_to_one_number_of_rows_share_its_recording) {
  queued_model m(decoders[0]);
  auto s = session::create(m.of, {.max_batch_size = 64});
  std::vector<std::shared_ptr<scheduled_request>> requests;
  for (int i = 0; i < 36; ++i) {  // three rows end one after another, when 36 are recorded
    decode::options o;
    o.max_new_tokens = i < 3 ? 10 + 4 * i : 28;
    requests.push_back(s->prepare(std::vector<int32_t>{4, 5 + i, 6}, o, {}));
    s->submit(requests.back());
  }
  for (int i = 0; i < 8; ++i) s->step();
  m.device.passes();
  for (int i = 0; i < 12; ++i) s->step();
  // What is chosen of fewer rows is run once before it is recorded; the layers are not run again.
  for (const queueing_device::pass& p : m.device.passes()) CHECK(p.replays >= 1 && p.operations <= 2);
  for (const auto& r : requests) {
    s->wait(*r);
    CHECK_MSG(r->status() == FT_OK, r->message());
  }
  s->close();
}

TEST(whole_sequences_are_rehearsed_and_recorded_too) {
  for (const std::string& config : {decoders[0], encoder_decoders[0], encoder("bert", "BertForMaskedLM"),
                                    encoder("bert", "BertForSequenceClassification")}) {
    queued_model m(config);
    std::mt19937 random(7);
    for (int round = 0; round < 12; ++round) {
      std::vector<int32_t> ids(static_cast<size_t>(round % 3 == 0 ? 30 : 1 + random() % 60));
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % 64);
      const int64_t n = static_cast<int64_t>(ids.size());
      forward_inputs in;
      in.input_ids = tensor(ids.data(), dtype::i32, {1, n});
      if (m.of->config().is_encoder_decoder) in.decoder_input_ids = in.input_ids;
      forward_request wanted = default_outputs(*m.of);
      wanted.embedding = true;
      const forward_outputs got = forward(*m.of, in, wanted), expected = forward(*m.on_cpu, in, wanted);
      CHECK(floats(got.last_hidden_state) == floats(expected.last_hidden_state));
      CHECK(floats(got.logits) == floats(expected.logits));
      CHECK(floats(got.embedding) == floats(expected.embedding));
    }
    int replays = 0;
    for (const auto& p : m.device.passes()) replays += p.replays;
    CHECK(replays > 0);
    CHECK_EQ(m.device.allocating_launches(), 0);
  }
}

TEST(memory_that_is_refused_while_a_step_is_prepared_fails_its_requests_and_nothing_else) {
  queued_model m(decoders[0]);
  auto s = session::create(m.of, {});
  CHECK_EQ(status_of_prompt(*s, 3), FT_OK);
  m.device.refuse(true);
  CHECK_EQ(status_of_prompt(*s, 60), FT_ERROR_OUT_OF_MEMORY);
  m.device.refuse(false);
  CHECK_EQ(status_of_prompt(*s, 60), FT_OK);
  CHECK_EQ(m.device.allocating_launches(), 0);
  s->close();
}
