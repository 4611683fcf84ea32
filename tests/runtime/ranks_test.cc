// A model on two ranks: threads of one process on the CPU, whose second knows of the first by bytes alone. What they
// generate is what one rank generates, whether they share layers or have some each, and however requests run.
#include <algorithm>
#include <condition_variable>
#include <functional>
#include <random>
#include <stdexcept>
#include <thread>

#include "archs/model_fixture.h"
#include "archs/tiny_configs.h"
#include "check.h"
#include "runtime/drawn_requests.h"
#include "runtime/forward/forward.h"
#include "runtime/plan/plan_bytes.h"
#include "runtime/session.h"
#include "thread_ranks.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

// Memory that refuses when it is told to.
class refusing_memory final : public memory {
 public:
  std::atomic<bool> refuses{false}, breaks{false};  // the second with an error that nobody expects
  void* allocate(size_t bytes) override {
    if (refuses) throw std::bad_alloc();
    if (breaks) throw std::length_error("broken");
    return host_memory().allocate(bytes);
  }
  void deallocate(void* data, size_t bytes) noexcept override { host_memory().deallocate(data, bytes); }
};

// A rank behind a thread, which gets every plan as bytes.
class remote_rank final : public rank {
 public:
  explicit remote_rank(std::unique_ptr<worker> of) : worker_(std::move(of)), thread_([this] { serve(); }) {}
  ~remote_rank() override {
    ask([this] { ends_ = true; });
    thread_.join();
  }

  rank_info info() const override { return worker_->info(); }
  int64_t page_bytes() const override { return worker_->page_bytes(); }
  int64_t free_memory() const override { return static_cast<int64_t>(worker_->device().free_memory()); }
  void open(uint64_t session, const session_memory& needs) override {
    ask([=, this] { worker_->open(session, needs); });
  }
  void close(uint64_t session) noexcept override {
    ask([=, this] { worker_->close(session); });
  }
  void prepare(const step_plan& plan) override {
    write_plan(bytes_, plan);
    post([this] {
      read_plan(plan_, bytes_);
      worker_->prepare(plan_);
    });
  }
  void prepare(const forward_plan& plan, forward_caller*) override {
    write_plan(bytes_, plan);
    post([this] {
      read_plan(forward_plan_, bytes_);
      worker_->prepare(forward_plan_, nullptr);
    });
  }
  void launch(const step_plan&, const cancellation&) override {
    post([this] { worker_->launch(plan_); });
  }
  void launch(const forward_plan&, forward_caller*) override {
    post([this] { worker_->launch(forward_plan_, nullptr); });
  }
  void finish() override { await(); }
  void recover() override { worker_->compute().others().recover(); }
  void forget_recordings() override {
    ask([this] { worker_->forget_recordings(); });
  }

 private:
  void ask(std::function<void()> work) {
    post(std::move(work));
    await();
  }
  void post(std::function<void()> work) {
    std::lock_guard lock(mutex_);
    work_ = std::move(work);
    failure_ = nullptr;
    changed_.notify_all();
  }
  void await() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !work_; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  void serve() {
    std::unique_lock lock(mutex_);
    while (!ends_) {
      changed_.wait(lock, [&] { return static_cast<bool>(work_); });
      lock.unlock();
      std::exception_ptr failure;
      try {
        work_();
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      work_ = nullptr;
      changed_.notify_all();
    }
  }

  std::unique_ptr<worker> worker_;
  std::vector<std::byte> bytes_;
  step_plan plan_;
  forward_plan forward_plan_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;
  std::exception_ptr failure_;
  bool ends_ = false;
  std::thread thread_;
};

struct ranked_model {
  ranked_model(const checkpoint_builder& files, int tensor_parallel, int pipeline_parallel)
      : groups(tensor_parallel, pipeline_parallel) {
    std::vector<std::unique_ptr<rank>> others;
    std::unique_ptr<worker> first;
    std::shared_ptr<const io::checkpoint> firsts;
    for (const thread_ranks::member& m : groups.members()) {
      auto source = files.open(m.share);
      placement where = placement::on(cpu_backend());
      if (first) where.from = last_memory = std::make_shared<refusing_memory>();
      auto loaded = load_worker(*source, where, 1, exact, {}, {m.tensor_ranks, m.stages});
      if (first) {
        others.push_back(std::make_unique<remote_rank>(std::move(loaded)));
      } else {
        first = std::move(loaded);
        firsts = source;
      }
    }
    of = model::of_ranks(firsts, exact, std::move(first), std::move(others));
  }

  thread_ranks groups;
  std::shared_ptr<refusing_memory> last_memory;  // of the last rank
  std::shared_ptr<model> of;
};

struct text {
  std::string config;
  const char* name;
  int sums_a_layer;  // of its decoder
};

const std::vector<text> texts = {{decoders[0], "llama", 2}, {decoders[8], "gptj", 1}, {encoder_decoders[0], "t5", 3}};

decode::options draw_settings(std::mt19937& random) {
  decode::options o;
  o.max_new_tokens = 64;
  o.seed = random();
  switch (random() % 4) {
    case 0:
      break;
    case 1:
      o.do_sample = true;
      if (random() % 2) o.top_k = 20;
      break;
    case 2:
      o.num_beams = static_cast<int32_t>(2 + random() % 3);
      break;
    default:
      o.logprobs = decode::logprobs_kind::processed;
      o.no_repeat_ngram_size = 3;  // which the host decides
  }
  return o;
}

// Sums over two ranks are rounded otherwise than one rank's: where two tokens are nearly as good, another one may be
// chosen. So texts may part, but seldom; a fault in any part of a step parts them at once.
void check_same(const std::vector<std::vector<output>>& got, const std::vector<std::vector<output>>& wanted,
                const std::string& what) {
  size_t same = 0, all = 0;
  for (size_t r = 0; r < wanted.size(); ++r) {
    CHECK_EQ(got[r].size(), wanted[r].size());
    for (size_t i = 0; i < wanted[r].size(); ++i) {
      const auto& a = got[r][i].tokens;
      const auto& b = wanted[r][i].tokens;
      same += static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
      all += b.size();
    }
  }
  CHECK_MSG(same * 10 >= all * 9, what, ": ", same, " of ", all, " tokens are the same");
}

void check_ranks(int tensor_parallel, int pipeline_parallel) {
  uint32_t seed = std::random_device{}();
  uint64_t steps_ahead = 0, reused = 0;
  for (const text& t : texts) {
    ++seed;
    checkpoint_builder files(t.config);
    files.add_all();
    ranked_model one(files, 1, 1), several(files, tensor_parallel, pipeline_parallel);
    for (bool goes_ahead : {false, true}) {
      session_stats alone, shared;
      const auto wanted = run_drawn(one.of, seed, 12, draw_settings, goes_ahead, alone);
      const auto got = run_drawn(several.of, seed, 12, draw_settings, goes_ahead, shared);
      check_same(got, wanted, cat(t.name, ", seed ", seed, goes_ahead ? ", ahead" : ""));
      steps_ahead += shared.steps_ahead;
      reused += shared.prompt_tokens_reused;
    }
  }
  CHECK(steps_ahead > 0 && reused > 0);
}

}  // namespace

TEST(two_tensor_ranks_generate_what_one_does) { check_ranks(2, 1); }
TEST(two_stages_generate_what_one_rank_does) { check_ranks(1, 2); }
TEST(two_stages_of_two_ranks_generate_what_one_rank_does) { check_ranks(2, 2); }

namespace {

void expect_near(const owned_tensor& got, const owned_tensor& wanted, const std::string& what) {
  CHECK_MSG(got.view.rank == wanted.view.rank && got.view.shape == wanted.view.shape, what);
  if (!wanted.view) return CHECK(!got.view);
  const auto *a = got.view.as<const float>(), *b = wanted.view.as<const float>();
  float largest = 1;
  for (int64_t i = 0; i < wanted.view.size(); ++i) largest = std::max(largest, std::abs(b[i]));
  for (int64_t i = 0; i < wanted.view.size(); ++i)
    CHECK_MSG(std::abs(a[i] - b[i]) <= 2e-5f * largest, what, ": element ", i, " is ", a[i], ", expected ", b[i]);
}

// Rows of drawn lengths, padded, as ids or as embeddings on the host or the device.
struct drawn_batch {
  explicit drawn_batch(std::mt19937& random, const arch::model_config& config, bool embedded, bool on_device) {
    const int64_t rows = 3, seq = 70, width = config.output_size();
    ids.resize(static_cast<size_t>(rows * seq));
    mask.resize(ids.size());
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 60);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t length = 1 + static_cast<int64_t>(random() % 60);
      for (int64_t i = 0; i < seq; ++i) mask[static_cast<size_t>(row * seq + i)] = i < length;
    }
    embeddings.resize(ids.size() * static_cast<size_t>(width));
    for (float& v : embeddings) v = static_cast<float>(random() % 1000) / 1000.0f - 0.5f;
    const tensor all_ids(ids.data(), dtype::i32, {rows, seq}), all_mask(mask.data(), dtype::i32, {rows, seq});
    const tensor all_embeddings(embeddings.data(), dtype::f32, {rows, seq, width});
    (embedded ? in.inputs_embeds : in.input_ids) = embedded ? all_embeddings : all_ids;
    in.attention_mask = all_mask;
    in.embeds_on_device = embedded && on_device;
    if (!config.is_encoder_decoder) return;
    (embedded ? in.decoder_inputs_embeds : in.decoder_input_ids) = embedded ? all_embeddings : all_ids;
    in.decoder_attention_mask = all_mask;
    in.decoder_embeds_on_device = in.embeds_on_device;
  }
  std::vector<int32_t> ids, mask;
  std::vector<float> embeddings;
  forward_inputs in;
};

}  // namespace

TEST(whole_sequences_give_on_several_ranks_what_they_give_on_one) {
  std::mt19937 random(std::random_device{}());
  for (const std::string& config :
       {decoders[0], decoders[8], decoders[12], encoder_decoders[0], encoder_decoders[2], encoder("bert", "BertModel"),
        encoder("bert", "BertForMaskedLM"), encoder("roberta", "RobertaForSequenceClassification")}) {
    checkpoint_builder files(config);
    files.add_all();
    ranked_model one(files, 1, 1);
    for (const auto& [tensor_parallel, stages] : {std::pair(2, 1), std::pair(1, 2), std::pair(2, 2)}) {
      ranked_model several(files, tensor_parallel, stages);
      for (int kind = 0; kind < 3; ++kind) {
        const drawn_batch batch(random, one.of->config(), kind > 0, kind > 1);
        forward_request wanted = default_outputs(*one.of);
        wanted.embedding = true;
        const forward_outputs got = forward(*several.of, batch.in, wanted), alone = forward(*one.of, batch.in, wanted);
        const std::string what = cat(config, " on ", tensor_parallel, " x ", stages, ", inputs of kind ", kind);
        expect_near(got.last_hidden_state, alone.last_hidden_state, what);
        expect_near(got.logits, alone.logits, what);
        expect_near(got.pooler_output, alone.pooler_output, what);
        expect_near(got.embedding, alone.embedding, what);
        expect_near(got.encoder_last_hidden_state, alone.encoder_last_hidden_state, what);
      }
    }
  }
}

TEST(an_error_of_any_kind_on_a_rank_ends_the_pass_on_all) {
  checkpoint_builder files(texts[0].config);
  files.add_all();
  for (const auto& [tensor_parallel, stages] : {std::pair(2, 1), std::pair(1, 2)}) {
    ranked_model two(files, tensor_parallel, stages);
    auto s = session::create(two.of, {});
    CHECK_EQ(status_of_prompt(*s, 3), FT_OK);
    two.last_memory->breaks = true;
    CHECK_EQ(status_of_prompt(*s, 100), FT_ERROR_INTERNAL);
    two.last_memory->breaks = false;
    CHECK_EQ(status_of_prompt(*s, 100), FT_OK);
    s->close();
  }
}

TEST(a_pass_over_whole_sequences_that_fails_on_a_rank_fails_with_its_error) {
  checkpoint_builder files(texts[0].config);
  files.add_all();
  for (const auto& [tensor_parallel, stages] : {std::pair(2, 1), std::pair(1, 2)}) {
    ranked_model two(files, tensor_parallel, stages);
    const auto run = [&](size_t length) {
      std::vector<int32_t> ids(length, 4);
      forward_inputs in;
      in.input_ids = tensor(ids.data(), dtype::i32, {1, static_cast<int64_t>(length)});
      try {
        forward(*two.of, in, {.logits = true});
      } catch (const std::bad_alloc&) {  // while it was prepared
        fail(FT_ERROR_OUT_OF_MEMORY, "refused");
      }
    };
    run(3);
    two.last_memory->refuses = true;
    CHECK_ERROR(FT_ERROR_OUT_OF_MEMORY, "", run(100));
    two.last_memory->refuses = false;
    run(100);
  }
}

TEST(a_step_joins_its_ranks_as_often_as_its_layers_need) {
  for (const text& t : texts) {
    checkpoint_builder files(t.config);
    files.add_all();
    ranked_model two(files, 2, 1);
    auto s = session::create(two.of, {.goes_ahead = false});
    decode::options o;
    o.max_new_tokens = 5;
    auto r = s->prepare(std::vector<int32_t>{5, 6, 7}, o, {});
    s->submit(r);
    s->step();
    const auto before = two.groups.tensor_group(0).done();
    s->step();
    const auto after = two.groups.tensor_group(0).done();
    CHECK_EQ(after.sums - before.sums, 1 + t.sums_a_layer * static_cast<int>(two.of->config().num_layers));
    CHECK_EQ(after.gathers - before.gathers, 1);  // the logits
    CHECK_EQ(after.sends - before.sends, 1);      // the choice
    s->close();
  }
}

TEST(a_cancelled_request_ends_on_all_ranks) {
  checkpoint_builder files(texts[0].config);
  files.add_all();
  for (const auto& [tensor_parallel, stages] : {std::pair(2, 1), std::pair(1, 2)}) {
    ranked_model two(files, tensor_parallel, stages);
    auto s = session::create(two.of, {});
    for (int round = 0; round < 20; ++round) {
      decode::options o;
      o.max_new_tokens = 90;
      auto r = s->prepare(std::vector<int32_t>(30, 4), o, {});
      s->submit(r);
      std::thread waiting([&] { s->wait(*r); });
      std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
      r->cancel();
      waiting.join();
      CHECK(r->finish_reason() == FT_FINISH_CANCELLED || r->finish_reason() == FT_FINISH_LENGTH);
    }
    auto r = s->prepare(std::vector<int32_t>(3, 4), {}, {});
    s->submit(r);
    s->wait(*r);
    CHECK_EQ(r->status(), FT_OK);
    s->close();
  }
}

TEST(memory_that_another_rank_is_refused_fails_the_step_and_nothing_else) {
  checkpoint_builder files(texts[0].config);
  files.add_all();
  for (const auto& [tensor_parallel, stages] : {std::pair(2, 1), std::pair(1, 2)}) {
    ranked_model two(files, tensor_parallel, stages);
    auto s = session::create(two.of, {});
    CHECK_EQ(status_of_prompt(*s, 3), FT_OK);
    two.last_memory->refuses = true;
    CHECK_EQ(status_of_prompt(*s, 100), FT_ERROR_OUT_OF_MEMORY);
    two.last_memory->refuses = false;
    CHECK_EQ(status_of_prompt(*s, 100), FT_OK);
    CHECK_EQ(s->stats().pages_in_use, 0);
    two.last_memory->refuses = true;
    CHECK_ERROR(
        FT_ERROR_OUT_OF_MEMORY, "",
        try { session::create(two.of, {.kv_cache_bytes = 1 << 20}); } catch (const std::bad_alloc&) {
          fail(FT_ERROR_OUT_OF_MEMORY, "refused");
        });
    two.last_memory->refuses = false;
    s->close();
  }
}
