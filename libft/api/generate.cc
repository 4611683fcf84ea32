// ft/generate.h.
#include <algorithm>
#include <utility>

#include "api/guard.h"
#include "api/handles.h"

using namespace ft;
using namespace ft::api;

namespace {

void read_bad_words(decode::options& options, const ft_generate_options& given) {
  if (given.num_bad_words < 0) fail(FT_ERROR_INVALID_ARGUMENT, "options.num_bad_words is negative");
  if (given.num_bad_words == 0) return;
  const int32_t* token = &require(given.bad_words, "options.bad_words");
  require(given.bad_word_lengths, "options.bad_word_lengths");
  for (int32_t i = 0; i < given.num_bad_words; ++i) {
    const int32_t length = given.bad_word_lengths[i];
    if (length < 1) fail(FT_ERROR_INVALID_ARGUMENT, "options.bad_word_lengths[", i, "] is ", length, "; at least 1");
    options.bad_words.emplace_back(token, token + length);
    token += length;
  }
}

runtime::soft_prompt to_soft_prompt(const ft_generate_options& given, const arch::model_config& config) {
  runtime::soft_prompt soft;
  const auto most = static_cast<int32_t>(config.positions.max);
  if (given.num_prompt_embeddings < 0 || given.num_prompt_embeddings > most)
    fail(FT_ERROR_INVALID_ARGUMENT, "options.num_prompt_embeddings is ", given.num_prompt_embeddings,
         "; it must be 0 to ", most);
  if (given.prefix_length < 0 || given.prefix_length >= most)
    fail(FT_ERROR_INVALID_ARGUMENT, "options.prefix_length is ", given.prefix_length, "; the model has ", most,
         " positions");
  if (const int64_t count = given.num_prompt_embeddings) {
    const int32_t* positions = &require(given.prompt_embedding_positions, "options.prompt_embedding_positions");
    const float* values = &require(given.prompt_embeddings, "options.prompt_embeddings");
    soft.positions.assign(positions, positions + count);
    soft.embeddings.assign(values, values + count * config.output_size());
  }
  if (given.prefix_length > 0) {
    const float* values = &require(given.prefix_key_values, "options.prefix_key_values");
    soft.prefix_length = given.prefix_length;
    soft.prefix.assign(values, values + 2 * config.num_layers * config.attention.num_kv_heads *
                                            config.attention.head_dim * given.prefix_length);
  }
  return soft;
}

// An array of the caller's, `count` elements of it.
std::vector<int32_t> to_ids(const int32_t* ids, int64_t count, const char* name, const char* count_name) {
  if (count < 0) fail(FT_ERROR_INVALID_ARGUMENT, count_name, " is ", count, "; it must be 0 or more");
  if (count == 0) return {};
  const int32_t* first = &require(ids, name);
  return {first, first + count};
}

constexpr ft_generate_options default_options = FT_GENERATE_OPTIONS_INIT;

decode::options to_options(const ft_generate_options& given, const arch::model_config& own) {
  using namespace decode;
#define FT_OPTION(type, name, value, ...) \
  static_assert(static_cast<type>(default_options.name) == type(value), "FT_GENERATE_OPTIONS_INIT");
#include "decode/option_list.inc"

  decode::options o;
#define FT_OPTION(type, name, ...) o.name = static_cast<decltype(o.name)>(given.name);
#include "decode/option_list.inc"
  if (o.forced_bos_token_id == -1) o.forced_bos_token_id = own.tokens.forced_bos_id;
  if (o.forced_eos_token_id == -1) o.forced_eos_token_ids = own.tokens.forced_eos_ids;
  if (o.forced_eos_token_id >= 0) o.forced_eos_token_ids = {o.forced_eos_token_id};
  if (given.num_stop_token_ids < -1)
    fail(FT_ERROR_INVALID_ARGUMENT, "options.num_stop_token_ids is ", given.num_stop_token_ids,
         "; -1 takes the checkpoint's own, 0 none");
  o.stop_token_ids = given.num_stop_token_ids == -1 ? own.tokens.stop_ids
                                                    : to_ids(given.stop_token_ids, given.num_stop_token_ids,
                                                             "options.stop_token_ids", "options.num_stop_token_ids");
  o.decoder_input_ids = to_ids(given.decoder_input_ids, given.num_decoder_input_ids, "options.decoder_input_ids",
                               "options.num_decoder_input_ids");
  read_bad_words(o, given);
  return o;
}

// What a callback of the caller's sees of a sequence's logits, which lie on the host while tokens are chosen.
std::function<int(std::span<const int32_t>, std::span<float>)> steering(const std::shared_ptr<ft_request>& handle,
                                                                        ft_logits_callback callback) {
  if (!callback) return nullptr;
  return [handle, callback](std::span<const int32_t> tokens, std::span<float> logits) {
    int64_t size = static_cast<int64_t>(logits.size()), stride = 1;
    const ft_dl_tensor view = {logits.data(), {FT_DEVICE_CPU, 0}, 1, {FT_DTYPE_FLOAT, 32, 1}, &size, &stride, 0};
    return callback(handle.get(), tokens.data(), tokens.size(), static_cast<size_t>(handle->impl->prompt_length()),
                    &view, handle->user_data);
  };
}

// The callbacks hold the handle, so that it outlives them even when the caller drops its share early.
runtime::request_callbacks to_callbacks(const std::shared_ptr<ft_request>& handle) {
  runtime::request_callbacks callbacks;
  if (handle->on_token)
    callbacks.on_token = [handle](int32_t token) { return handle->on_token(handle.get(), token, handle->user_data); };
  callbacks.constrain_logits = steering(handle, handle->constrain_logits);
  callbacks.on_logits = steering(handle, handle->on_logits);
  if (handle->should_stop)
    callbacks.should_stop = [handle](std::span<const int32_t> tokens) {
      return handle->should_stop(handle.get(), tokens.data(), tokens.size(),
                                 static_cast<size_t>(handle->impl->prompt_length()), handle->user_data);
    };
  return callbacks;
}

template <class Read>
void read_sequence(const ft_request* request, size_t index, bool wants_logprobs, Read&& read) {
  require(request, "request").require_own_process();
  if (wants_logprobs && !request->impl->keeps_logprobs())
    fail(FT_ERROR_INVALID_ARGUMENT, "log-probabilities were not kept: set options.logprobs when submitting");
  request->impl->read_output(index, read);
}

// Up to `capacity` of the tokens from `first` on, and of their log-probabilities.
void copy_from(const runtime::output& o, size_t first, int32_t* tokens, float* logprobs, size_t capacity) {
  const auto copy = [&](const auto& all, auto* to) {
    if (to && first < all.size())
      std::ranges::copy(std::span(all).subspan(first).first(std::min(all.size() - first, capacity)), to);
  };
  copy(o.tokens, tokens);
  copy(o.logprobs, logprobs);
}

std::span<const int32_t> to_prompt(const int32_t* prompt, size_t length) {
  if (length > 0) require(prompt, "prompt");
  return {prompt, length};
}

std::shared_ptr<runtime::scheduled_request> prepare(ft_session& session, std::span<const int32_t> prompt,
                                                    const ft_generate_options& given,
                                                    runtime::request_callbacks callbacks) {
  const arch::model_config& config = session.impl->owner().config();
  return session.impl->prepare(prompt, to_options(given, config), std::move(callbacks), to_soft_prompt(given, config));
}

}  // namespace

ft_status ft_session_create(ft_session** out, ft_model* model, const ft_session_options* options) {
  return guard([&] {
    require(out, "out") = nullptr;
    require(model, "model").require_own_process();
    const ft_session_options defaults = FT_SESSION_OPTIONS_INIT;
    const ft_session_options given = read_options(options, defaults, "options");
    runtime::session_options wanted;
    if (given.max_batch_size) wanted.max_batch_size = given.max_batch_size;
    if (given.max_tokens_per_step) wanted.max_tokens_per_step = given.max_tokens_per_step;
    wanted.kv_cache_bytes = given.kv_cache_bytes;
    wanted.prefix_cache = given.prefix_cache != 0;
    wanted.prefix_cache_bytes = given.prefix_cache_bytes;
    auto session = std::make_unique<ft_session>();
    session->impl = runtime::session::create(model->impl, wanted);
    *out = session.release();
  });
}

void ft_session_destroy(ft_session* session) {
  if (!session || session->forked()) return;
  guard([&] { session->impl->close(); });
  delete session;
}

ft_status ft_session_submit(ft_request** out, ft_session* session, const int32_t* prompt, size_t prompt_length,
                            const ft_generate_options* options, ft_token_callback on_token,
                            ft_logits_callback on_logits, void* user_data) {
  return guard([&] {
    require(out, "out") = nullptr;
    require(session, "session").require_own_process();
    const std::span<const int32_t> tokens = to_prompt(prompt, prompt_length);
    const ft_generate_options given = read_options(options, default_options, "options");

    auto handle = std::make_shared<ft_request>();
    handle->on_token = on_token;
    handle->constrain_logits = given.constrain_logits;
    handle->on_logits = on_logits;
    handle->should_stop = given.should_stop;
    handle->user_data = user_data;
    handle->session = session->impl;
    auto prepared = prepare(*session, tokens, given, to_callbacks(handle));
    handle->impl = prepared;
    handle->self = handle;
    *out = handle.get();  // before the first callback can come
    try {
      session->impl->submit(std::move(prepared));
    } catch (...) {
      *out = nullptr;
      handle->impl->abandon();
      handle->self.reset();
      throw;
    }
  });
}

ft_status ft_session_check(ft_session* session, const int32_t* prompt, size_t prompt_length,
                           const ft_generate_options* options) {
  return guard([&] {
    require(session, "session").require_own_process();
    prepare(*session, to_prompt(prompt, prompt_length), read_options(options, default_options, "options"), {});
  });
}

ft_status ft_session_step(size_t* active, ft_session* session) {
  return guard([&] {
    require(session, "session").require_own_process();
    const size_t unfinished = session->impl->step();
    if (active) *active = unfinished;
  });
}

ft_status ft_session_get_stats(ft_session_stats* out, const ft_session* session) {
  return guard([&] {
    require(session, "session").require_own_process();
    const runtime::session_stats s = session->impl->stats();
    write_struct(out,
                 {sizeof(ft_session_stats), s.steps, s.prompt_tokens, s.generated_tokens, s.pages_in_use, s.pages_total,
                  s.page_tokens, s.page_bytes, s.allocations, s.pages_copied, s.prompt_tokens_reused, s.pages_kept,
                  s.steps_ahead, s.steps_replayed},
                 "out");
  });
}

ft_status ft_request_wait(ft_request* request) {
  return guard([&] {
    require(request, "request").require_own_process();
    runtime::request& r = *request->impl;
    request->session->wait(r);
    if (r.status() != FT_OK) throw error(r.status(), r.message());
  });
}

ft_status ft_request_poll(ft_finish_reason* out, const ft_request* request) {
  return guard([&] {
    require(request, "request").require_own_process();
    require(out, "out") = request->impl->finish_reason();
  });
}

ft_status ft_request_cancel(ft_request* request) {
  return guard([&] {
    require(request, "request").require_own_process();
    request->impl->cancel();
  });
}

ft_status ft_request_num_sequences(size_t* out, const ft_request* request) {
  return guard([&] {
    require(request, "request").require_own_process();
    require(out, "out") = request->impl->num_outputs();
  });
}

ft_status ft_request_get_sequence(ft_sequence* out, int32_t* tokens, float* logprobs, size_t capacity, size_t index,
                                  const ft_request* request) {
  return guard([&] {
    read_sequence(request, index, logprobs != nullptr, [&](const runtime::output& o) {
      copy_from(o, 0, tokens, logprobs, capacity);
      if (out) write_struct(out, {sizeof(ft_sequence), o.tokens.size(), o.score, o.finish_reason}, "out");
    });
  });
}

ft_status ft_request_tokens(size_t* count, int32_t* tokens, float* logprobs, size_t capacity,
                            const ft_request* request) {
  return ft_request_tokens_from(count, tokens, logprobs, capacity, 0, request);
}

ft_status ft_request_tokens_from(size_t* count, int32_t* tokens, float* logprobs, size_t capacity, size_t first,
                                 const ft_request* request) {
  return guard([&] {
    read_sequence(request, 0, logprobs != nullptr, [&](const runtime::output& o) {
      copy_from(o, first, tokens, logprobs, capacity);
      if (count) *count = o.tokens.size();
    });
  });
}

ft_status ft_request_prompt_logprobs(size_t* count, float* logprobs, size_t capacity, const ft_request* request) {
  return guard([&] {
    require(request, "request").require_own_process();
    if (!request->impl->keeps_prompt_logprobs())
      fail(FT_ERROR_INVALID_ARGUMENT,
           "the prompt's log-probabilities were not kept: set options.prompt_logprobs when submitting");
    request->impl->read_prompt_logprobs([&](std::span<const float> values) {
      if (count) *count = values.size();
      if (logprobs) std::copy_n(values.begin(), std::min(values.size(), capacity), logprobs);
    });
  });
}

const char* ft_request_error(const ft_request* request) {
  return request && request->impl->finished() ? request->impl->message().c_str() : "";
}

void ft_request_release(ft_request* request) {
  if (!request || request->forked()) return;
  request->impl->cancel();
  const std::shared_ptr<ft_request> last = std::move(request->self);
}
