// Memory runs out at every place where it can: this program replaces the global operator new, which the shared library
// then uses too, and refuses the n-th allocation for every n, while opening, generating and passing forward. Each call
// must end in FT_ERROR_OUT_OF_MEMORY (or succeed, where the library can do without), leave the handles usable and leak
// nothing. The same counters show that a steady decode step allocates nothing at all.
#include <ft/ft.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>

#include "check.h"

namespace {

std::atomic<int64_t> live{0};       // allocations not yet freed
std::atomic<int64_t> made{0};       // allocations so far
std::atomic<int64_t> countdown{0};  // allocations until one is refused; 0: none is
std::atomic<bool> persistent{false};
std::atomic<bool> refused{false};

void* take(std::size_t bytes, std::size_t alignment) {
  if (countdown.load(std::memory_order_relaxed) > 0) {
    const int64_t left = countdown.fetch_sub(1);
    if (left == 1) {
      refused = true;
      if (persistent) countdown = 1;
      throw std::bad_alloc();
    }
  }
  void* data = nullptr;
  if (posix_memalign(&data, std::max(alignment, sizeof(void*)), bytes ? bytes : 1) != 0) throw std::bad_alloc();
  live.fetch_add(1, std::memory_order_relaxed);
  made.fetch_add(1, std::memory_order_relaxed);
  return data;
}

void give_back(void* data) noexcept {
  if (!data) return;
  live.fetch_sub(1, std::memory_order_relaxed);
  std::free(data);
}

}  // namespace

void* operator new(std::size_t bytes) { return take(bytes, alignof(max_align_t)); }
void* operator new[](std::size_t bytes) { return take(bytes, alignof(max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return take(bytes, std::size_t(alignment)); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return take(bytes, std::size_t(alignment)); }
void operator delete(void* data) noexcept { give_back(data); }
void operator delete[](void* data) noexcept { give_back(data); }
void operator delete(void* data, std::size_t) noexcept { give_back(data); }
void operator delete[](void* data, std::size_t) noexcept { give_back(data); }
void operator delete(void* data, std::align_val_t) noexcept { give_back(data); }
void operator delete[](void* data, std::align_val_t) noexcept { give_back(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { give_back(data); }
void operator delete[](void* data, std::size_t, std::align_val_t) noexcept { give_back(data); }

namespace {

constexpr int32_t prompt[] = {5, 6, 7, 8, 9};
constexpr int32_t new_tokens = 6;

#define CHECK_OK(call)                                                                            \
  do {                                                                                            \
    const ft_status status_ = (call);                                                             \
    CHECK_MSG(status_ == FT_OK, #call, " gave ", ft_status_name(status_), ": ", ft_last_error()); \
  } while (0)

// Runs `attempt`, which frees what it made, with its 1st, 2nd, 3rd, ... allocation refused, until it needs no more of
// them; and all of that again with every later allocation refused as well.
template <class Attempt>
void refuse_every_allocation(const char* what, Attempt&& attempt) {
  CHECK_OK(attempt());  // caches and statics of the library and of the C++ runtime are filled once
  CHECK_OK(attempt());
  const int64_t before = live;
  for (const bool all_later : {false, true}) {
    int64_t nth = 1, survived = 0;
    for (;; ++nth) {
      persistent = all_later;
      refused = false;
      countdown = nth;
      const ft_status status = attempt();
      countdown = 0;
      if (!refused) {
        CHECK_OK(status);
        break;
      }
      survived += status == FT_OK;
      CHECK_MSG(status == FT_OK || status == FT_ERROR_OUT_OF_MEMORY, what, ": allocation ", nth, " gave ",
                ft_status_name(status), ": ", ft_last_error());
      CHECK_MSG(live == before, what, ": allocation ", nth, " left ", live - before, " allocations behind");
      CHECK(nth < 1000000);
    }
    std::printf("%s: %lld allocations refused%s, %lld done without\n", what, static_cast<long long>(nth - 1),
                all_later ? " with all later ones" : "", static_cast<long long>(survived));
    CHECK(nth > 1);
  }
  CHECK_OK(attempt());
  CHECK_EQ(live.load(), before);
}

ft_model* open_model(const char* path, int threads) {
  ft_model_options options = FT_MODEL_OPTIONS_INIT;
  options.num_threads = threads;
  ft_model* model = nullptr;
  CHECK_OK(ft_model_open(&model, path, &options));
  return model;
}

ft_session* open_session(ft_model* model) {
  ft_session_options options = FT_SESSION_OPTIONS_INIT;
  options.kv_cache_bytes = 1 << 20;
  ft_session* session = nullptr;
  CHECK_OK(ft_session_create(&session, model, &options));
  return session;
}

ft_generate_options sampled() {
  ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
  options.max_new_tokens = new_tokens;
  options.num_stop_token_ids = 0;
  options.do_sample = 1;
  options.top_k = 20;
  options.top_p = 0.9f;
  options.repetition_penalty = 1.1f;
  options.no_repeat_ngram_size = 3;
  options.logprobs = 1;
  options.seed = 7;
  return options;
}

// Generates; on success the tokens must be those expected (if any are), and on failure the request must say so too.
ft_status generate(ft_session* session, int32_t* expected, const ft_generate_options& options = sampled()) {
  ft_request* request = nullptr;
  ft_status status = ft_session_submit(&request, session, prompt, 5, &options, nullptr, nullptr, nullptr);
  if (status != FT_OK) {
    CHECK(!request);
    return status;
  }
  status = ft_request_wait(request);
  int32_t tokens[new_tokens] = {};
  size_t count = 0;
  ft_finish_reason reason = FT_FINISH_NONE;
  CHECK_OK(ft_request_tokens(&count, tokens, nullptr, new_tokens, request));
  CHECK_OK(ft_request_poll(&reason, request));
  CHECK_EQ(int(reason), int(status == FT_OK ? FT_FINISH_LENGTH : FT_FINISH_ERROR));
  if (status == FT_OK)
    for (int i = 0; i < new_tokens; ++i) {
      if (expected[i] < 0) expected[i] = tokens[i];
      CHECK_EQ(expected[i], tokens[i]);
    }
  ft_request_release(request);
  return status;
}

struct expected_tokens {
  int32_t values[new_tokens];
  expected_tokens() { std::fill_n(values, new_tokens, -1); }
};

// Embeddings for two tokens of the prompt, and for decoders a prefix of three positions.
ft_status generate_softly(ft_session* session, bool with_prefix, int32_t* expected) {
  static const float values[2 * 2 * 2 * 3 * 32] = {0.5f, -0.25f, 1};
  static const int32_t positions[2] = {1, 3};
  ft_generate_options options = sampled();
  options.num_prompt_embeddings = 2;
  options.prompt_embedding_positions = positions;
  options.prompt_embeddings = values;
  options.prefix_key_values = values;
  options.prefix_length = with_prefix ? 3 : 0;
  return generate(session, expected, options);
}

// A folder that converting may write to, made and removed without a refusal.
class workplace {
 public:
  workplace() {
    char in_memory[] = "/dev/shm/ft-convert-XXXXXX", on_disk[] = "/tmp/ft-convert-XXXXXX";
    char* made = mkdtemp(in_memory);  // where nothing waits for a disk
    if (!made) made = mkdtemp(on_disk);
    CHECK(made);
    path_ = made;
  }
  ~workplace() { std::filesystem::remove_all(path_); }
  std::string destination() const { return path_ + "/out"; }
  void clear() const { std::filesystem::remove_all(destination()); }
  // The names in it, one after another.
  std::string entries() const {
    std::string found;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      found += entry.path().filename().string() + " ";
    return found;
  }

 private:
  std::string path_;
};

ft_status convert(const char* source, const std::string& destination, bool overwrite) {
  static const char* const names[] = {"tokenizer.json"};
  static const char* const contents[] = {"{}"};
  ft_convert_options options = FT_CONVERT_OPTIONS_INIT;
  options.dtype = "bfloat16";
  options.tensor_parallel = 2;
  options.overwrite = overwrite;
  options.file_names = names;
  options.file_contents = contents;
  options.num_files = 1;
  options.progress = [](uint64_t, uint64_t, void*) { return 0; };
  return ft_convert(source, destination.c_str(), &options);
}

// On five token ids, or on five embeddings.
ft_status forward(ft_model* model, bool with_options, bool embedded = false) {
  static float rows[5 * 32] = {0.5f, -0.25f, 1};
  int64_t shape[3] = {1, 5, 32};
  const ft_dl_tensor id_view = {
      const_cast<int32_t*>(prompt), {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_INT, 32, 1}, shape, nullptr, 0};
  const ft_dl_tensor row_view = {rows, {FT_DEVICE_CPU, 0}, 3, {FT_DTYPE_FLOAT, 32, 1}, shape, nullptr, 0};
  ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
  ft_forward_options options = FT_FORWARD_OPTIONS_INIT;
  options.outputs = FT_OUTPUT_LAST_HIDDEN_STATE | FT_OUTPUT_EMBEDDING;
  ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
  ft_tensor* given = nullptr;
  ft_status status = ft_tensor_wrap(&given, embedded ? &row_view : &id_view, nullptr, nullptr);
  if (status != FT_OK) return status;
  (embedded ? in.inputs_embeds : in.input_ids) = given;
  status = ft_forward(&out, model, &in, with_options ? &options : nullptr);
  if (status != FT_OK) CHECK(!out.last_hidden_state && !out.pooler_output && !out.logits && !out.embedding);
  for (ft_tensor* t : {given, out.last_hidden_state, out.pooler_output, out.logits, out.embedding})
    ft_tensor_release(t);
  return status;
}

}  // namespace

TEST(opening_a_checkpoint) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/llama.gguf", FT_TINY "/bert"})
    refuse_every_allocation(path, [&] {
      ft_checkpoint* checkpoint = nullptr;
      const ft_status status = ft_checkpoint_open(&checkpoint, path);
      CHECK((status == FT_OK) == (checkpoint != nullptr));
      ft_checkpoint_close(checkpoint);
      return status;
    });
}

TEST(opening_a_model) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/llama.gguf", FT_TINY "/bert", FT_TINY "/t5"})
    for (const char* dtype : {"auto", "bfloat16"})
      refuse_every_allocation(path, [&] {
        ft_model_options options = FT_MODEL_OPTIONS_INIT;
        options.num_threads = 2;
        options.dtype = dtype;
        ft_model* model = nullptr;
        const ft_status status = ft_model_open(&model, path, &options);
        CHECK((status == FT_OK) == (model != nullptr));
        ft_model_close(model);
        return status;
      });
}

// From a cold model: the session's pages, the request, the activations of the first steps.
TEST(generating_with_a_new_session) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/t5"}) {
    expected_tokens expected;
    refuse_every_allocation("generating with a new session", [&] {
      const int64_t armed = countdown.exchange(0);
      ft_model* model = open_model(path, 2);
      countdown = armed;
      ft_session_options options = FT_SESSION_OPTIONS_INIT;
      options.kv_cache_bytes = 1 << 20;
      ft_session* session = nullptr;
      ft_status status = ft_session_create(&session, model, &options);
      CHECK((status == FT_OK) == (session != nullptr));
      if (status == FT_OK) status = generate(session, expected.values);
      countdown = 0;
      // Whatever failed, the model is whole: a fresh session gives the expected tokens.
      if (expected.values[0] >= 0) {
        ft_session* fresh = open_session(model);
        CHECK_OK(generate(fresh, expected.values));
        ft_session_destroy(fresh);
      }
      ft_session_destroy(session);
      ft_model_close(model);
      return status;
    });
  }
}

// One session lives through all the failures.
TEST(generating_on) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/t5"}) {
    ft_model* model = open_model(path, 2);
    ft_session* session = open_session(model);
    expected_tokens expected;
    refuse_every_allocation("generating on", [&] { return generate(session, expected.values); });
    CHECK_OK(generate(session, expected.values));
    ft_session_stats stats = FT_SESSION_STATS_INIT;
    CHECK_OK(ft_session_get_stats(&stats, session));
    CHECK_EQ(stats.pages_in_use, 0);
    ft_session_destroy(session);
    ft_model_close(model);
  }
}

TEST(soft_prompts) {
  for (const bool decoder : {true, false}) {
    ft_model* model = open_model(decoder ? FT_TINY "/llama" : FT_TINY "/t5", 2);
    ft_session* session = open_session(model);
    expected_tokens expected;
    refuse_every_allocation("soft prompts", [&] { return generate_softly(session, decoder, expected.values); });
    ft_session_destroy(session);
    ft_model_close(model);
  }
}

// Either the folder is there as a whole, or nothing is.
TEST(converting) {
  const workplace place;
  const std::string out = place.destination();
  for (const char* source : {FT_TINY "/llama", FT_TINY "/llama.gguf", FT_TINY "/t5"}) {
    refuse_every_allocation(source, [&] {
      const ft_status status = convert(source, out, false);
      const int64_t armed = countdown.exchange(0);
      CHECK_EQ(place.entries(), status == FT_OK ? "out " : "");
      place.clear();
      countdown = armed;
      return status;
    });
  }
  CHECK_OK(convert(FT_TINY "/llama", out, false));
  refuse_every_allocation("converting onto a folder", [&] {
    const ft_status status = convert(FT_TINY "/t5", out, true);
    const int64_t armed = countdown.exchange(0);
    CHECK_EQ(place.entries(), "out ");
    ft_checkpoint* whole = nullptr;
    CHECK_OK(ft_checkpoint_open(&whole, out.c_str()));
    ft_checkpoint_close(whole);
    countdown = armed;
    return status;
  });
}

TEST(passing_forward) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/bert"})
    for (const bool with_options : {false, true}) {
      refuse_every_allocation("a pass through a cold model", [&] {
        const int64_t armed = countdown.exchange(0);
        ft_model* model = open_model(path, 2);
        countdown = armed;
        const ft_status status = forward(model, with_options);
        countdown = 0;
        CHECK_OK(forward(model, with_options));
        ft_model_close(model);
        return status;
      });
      ft_model* model = open_model(path, 2);
      refuse_every_allocation("a pass through a warm model", [&] { return forward(model, with_options); });
      refuse_every_allocation("a pass on embeddings", [&] { return forward(model, with_options, true); });
      ft_model_close(model);
    }
}

TEST(tensors) {
  refuse_every_allocation("a tensor and its DLPack view", [&] {
    const int64_t shape[3] = {2, 3, 4};
    ft_tensor *tensor = nullptr, *back = nullptr;
    ft_dl_managed_tensor* managed = nullptr;
    ft_status status = ft_tensor_create(&tensor, {FT_DTYPE_FLOAT, 32, 1}, 3, shape);
    if (status == FT_OK) status = ft_tensor_to_dlpack(&managed, tensor);
    if (status == FT_OK) {
      status = ft_tensor_from_dlpack(&back, managed);
      if (status != FT_OK) managed->deleter(managed);
    }
    ft_tensor_release(back);
    ft_tensor_release(tensor);
    return status;
  });
}

TEST(a_steady_decode_step_allocates_nothing) {
  for (const char* path : {FT_TINY "/llama", FT_TINY "/t5"}) {
    for (const int32_t do_sample : {0, 1}) {
      ft_model* model = open_model(path, 2);
      ft_session* session = open_session(model);
      ft_generate_options options = sampled();
      options.do_sample = do_sample;
      options.max_new_tokens = 200;
      ft_request* requests[3] = {};
      for (ft_request*& request : requests)
        CHECK_OK(ft_session_submit(&request, session, prompt, 5, &options, nullptr, nullptr, nullptr));
      size_t active = 0;
      for (int i = 0; i < 5; ++i) CHECK_OK(ft_session_step(&active, session));
      CHECK_EQ(active, size_t{3});
      ft_session_stats before = FT_SESSION_STATS_INIT, after = FT_SESSION_STATS_INIT;
      CHECK_OK(ft_session_get_stats(&before, session));
      const int64_t made_before = made;
      for (int i = 0; i < 180; ++i) CHECK_OK(ft_session_step(&active, session));  // across eleven pages a request
      const int64_t made_after = made;
      CHECK_OK(ft_session_get_stats(&after, session));
      CHECK_EQ(active, size_t{3});
      CHECK_EQ(made_after - made_before, 0);
      CHECK_EQ(after.allocations, before.allocations);
      CHECK_EQ(after.generated_tokens - before.generated_tokens, uint64_t{3 * 180});
      CHECK(after.pages_in_use > before.pages_in_use);
      for (ft_request* request : requests) ft_request_release(request);
      ft_session_destroy(session);
      ft_model_close(model);
    }
  }
}
