/* Sessions and requests: misuse, options out of range, callbacks, cancelling, limits. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "harness.h"

void test_session_misuse(void) {
    ft_model *llama = open_tiny("llama", 1), *bert = open_tiny("bert", 1);
    ft_session *session = NULL;
    ft_session_options wrong = FT_SESSION_OPTIONS_INIT;
    ft_session_stats stats = FT_SESSION_STATS_INIT;
    ft_request *request = NULL;
    ft_finish_reason reason;
    const int32_t prompt[3] = {5, 6, 7};
    size_t count;

    CHECK_INVALID(ft_session_create(NULL, llama, NULL));
    CHECK_INVALID(ft_session_create(&session, NULL, NULL));
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_session_create(&session, bert, NULL));
    wrong.max_batch_size = -1;
    CHECK_INVALID(ft_session_create(&session, llama, &wrong));
    wrong = (ft_session_options)FT_SESSION_OPTIONS_INIT;
    wrong.max_tokens_per_step = -1;
    CHECK_INVALID(ft_session_create(&session, llama, &wrong));
    wrong = (ft_session_options)FT_SESSION_OPTIONS_INIT;
    wrong.kv_cache_bytes = -1;
    CHECK_INVALID(ft_session_create(&session, llama, &wrong));
    wrong = (ft_session_options)FT_SESSION_OPTIONS_INIT;
    wrong.prefix_cache_bytes = -1;
    CHECK_INVALID(ft_session_create(&session, llama, &wrong));
    CHECK(session == NULL);

    session = open_session(llama);
    CHECK_INVALID(ft_session_submit(NULL, session, prompt, 3, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_submit(&request, NULL, prompt, 3, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_submit(&request, session, NULL, 3, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_submit(&request, session, prompt, 0, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_submit(&request, session, (int32_t[]){5, 96}, 2, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_submit(&request, session, (int32_t[]){5, -1}, 2, NULL, NULL, NULL, NULL));
    CHECK_INVALID(ft_session_step(&count, NULL));
    CHECK_OK(ft_session_step(NULL, session));
    CHECK_OK(ft_session_step(&count, session));
    CHECK(count == 0);
    CHECK_INVALID(ft_session_get_stats(NULL, session));
    CHECK_INVALID(ft_session_get_stats(&stats, NULL));
    CHECK(request == NULL);

    ft_generate_options options = greedy(2);
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
    CHECK_INVALID(ft_request_wait(NULL));
    CHECK_INVALID(ft_request_poll(NULL, request));
    CHECK_INVALID(ft_request_poll(&reason, NULL));
    CHECK_INVALID(ft_request_cancel(NULL));
    CHECK_INVALID(ft_request_tokens(&count, NULL, NULL, 0, NULL));
    CHECK_OK(ft_request_tokens(NULL, NULL, NULL, 0, request));
    float logprob;
    CHECK_INVALID(ft_request_tokens(&count, NULL, &logprob, 1, request)); /* they were not asked for */
    CHECK(ft_request_error(NULL) != NULL);
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_wait(request));
    CHECK(!strcmp(ft_request_error(request), ""));
    ft_request_release(request);
    ft_request_release(NULL);
    ft_session_destroy(session);
    ft_session_destroy(NULL);
    ft_model_close(llama);
    ft_model_close(bert);
}

void test_submit_values(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t prompt[3] = {5, 6, 7};
    CHECK_REFUSED(session, o.max_new_tokens = -1);
    CHECK_REFUSED(session, o.max_new_tokens = 0);
    CHECK_REFUSED(session, o.min_new_tokens = -1);
    CHECK_REFUSED(session, o.min_new_tokens = 5);
    CHECK_REFUSED(session, (o.do_sample = 1, o.temperature = 0.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.temperature = -1.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.temperature = NAN));
    CHECK_REFUSED(session, o.temperature = -1.0f);
    CHECK_REFUSED(session, o.logprobs = 257); /* no enumerator, though its last byte is one */
    CHECK_REFUSED(session, o.early_stopping = 3);
    CHECK_REFUSED(session, o.forced_bos_token_id = -3);
    CHECK_REFUSED(session, o.forced_eos_token_id = 96);
    CHECK_REFUSED(session, o.num_decoder_input_ids = -1);
    CHECK_REFUSED(session, (o.num_beams = 4, o.num_beam_groups = 2));
    CHECK_REFUSED(session, (o.num_beams = 4, o.diversity_penalty = 1.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_k = -1));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p = 0.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p = 1.5f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p = NAN));
    CHECK_REFUSED(session, (o.do_sample = 1, o.min_p = -0.1f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.min_p = 1.1f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.typical_p = 0.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.typical_p = NAN));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p_decay = 0.0f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p_decay = 1.5f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p = 0.5f, o.top_p_min = 0.6f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p_min = -0.1f));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p_reset_id = -2));
    CHECK_REFUSED(session, (o.do_sample = 1, o.top_p_reset_id = 96));
    CHECK_REFUSED(session, o.repetition_penalty = 0.0f);
    CHECK_REFUSED(session, o.repetition_penalty = -2.0f);
    CHECK_REFUSED(session, o.repetition_penalty = NAN);
    CHECK_REFUSED(session, o.presence_penalty = NAN);
    CHECK_REFUSED(session, o.frequency_penalty = INFINITY);
    CHECK_REFUSED(session, o.no_repeat_ngram_size = -1);
    CHECK_REFUSED(session, o.num_stop_token_ids = -2);
    CHECK_REFUSED(session, (o.num_stop_token_ids = 1, o.stop_token_ids = NULL));
    CHECK_REFUSED(session, (o.num_stop_token_ids = 1, o.stop_token_ids = (int32_t[]){96}));
    CHECK_REFUSED(session, o.num_bad_words = -1);
    CHECK_REFUSED(session, (o.num_bad_words = 1, o.bad_words = (int32_t[]){-1}, o.bad_word_lengths = (int32_t[]){1}));
    CHECK_REFUSED(session, (o.num_bad_words = 1, o.bad_words = NULL, o.bad_word_lengths = NULL));
    CHECK_REFUSED(session, (o.num_bad_words = 1, o.bad_words = prompt, o.bad_word_lengths = NULL));
    CHECK_REFUSED(session, (o.num_bad_words = 1, o.bad_words = prompt, o.bad_word_lengths = (int32_t[]){0}));
    CHECK_REFUSED(session, (o.num_bad_words = 1, o.bad_words = prompt, o.bad_word_lengths = (int32_t[]){-3}));

    /* Checking says what submitting would, and does no more. */
    ft_generate_options options = greedy(4);
    options.temperature = 0.0f; /* greedy search does not use it */
    CHECK_OK(ft_session_check(session, prompt, 3, &options));
    CHECK_OK(ft_session_check(session, prompt, 3, NULL));
    CHECK_INVALID(ft_session_check(NULL, prompt, 3, &options));
    CHECK_INVALID(ft_session_check(session, NULL, 3, &options));
    CHECK_INVALID(ft_session_check(session, prompt, 0, &options));
    CHECK_INVALID(ft_session_check(session, (int32_t[]){5, 96}, 2, &options));
    options.do_sample = 1;
    CHECK_INVALID(ft_session_check(session, prompt, 3, &options));
    CHECK(strstr(ft_last_error(), "temperature is 0; it must be greater than 0"));

    /* Nothing is left behind. */
    size_t active = 1;
    CHECK_OK(ft_session_step(&active, session));
    CHECK(active == 0);
    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_generation(void) {
    static const char *const models[] = {"llama", "llama.gguf"};
    for (int m = 0; m < 2; ++m) {
        ft_model *llama = open_tiny(models[m], 2);
        ft_session *session = open_session(llama);
        int32_t prompt[20], first[30], again[30];
        make_prompt(prompt, 20, 1);
        ft_generate_options options = greedy(30);
        CHECK(generate(first, 30, session, prompt, 20, &options) == 30);
        for (int i = 0; i < 30; ++i) CHECK(first[i] >= 0 && first[i] < 96);
        CHECK(generate(again, 30, session, prompt, 20, &options) == 30);
        CHECK(!memcmp(first, again, sizeof first));

        /* A stop token ends it there, and is itself reported. */
        ft_generate_options stopping = options;
        stopping.stop_token_ids = &first[9];
        stopping.num_stop_token_ids = 1;
        size_t until = 0;
        while (first[until] != first[9]) ++until;
        ft_request *request;
        ft_finish_reason reason;
        size_t count;
        CHECK_OK(ft_session_submit(&request, session, prompt, 20, &stopping, NULL, NULL, NULL));
        CHECK_OK(ft_request_wait(request));
        CHECK_OK(ft_request_poll(&reason, request));
        CHECK_OK(ft_request_tokens(&count, NULL, NULL, 0, request));
        CHECK(reason == FT_FINISH_STOP && count == until + 1);
        ft_request_release(request);

        /* Sampling: one seed, one text; its log-probabilities are those of a distribution. */
        ft_generate_options sampling = options;
        sampling.do_sample = 1;
        sampling.temperature = 1.3f;
        sampling.top_k = 40;
        sampling.seed = 1234;
        CHECK(generate(first, 30, session, prompt, 20, &sampling) == 30);
        CHECK(generate(again, 30, session, prompt, 20, &sampling) == 30);
        CHECK(!memcmp(first, again, sizeof first));
        sampling.seed = 1235;
        CHECK(generate(again, 30, session, prompt, 20, &sampling) == 30);
        CHECK(memcmp(first, again, sizeof first));
        sampling.logprobs = 1;
        float logprobs[30];
        CHECK_OK(ft_session_submit(&request, session, prompt, 20, &sampling, NULL, NULL, NULL));
        CHECK_OK(ft_request_wait(request));
        CHECK_OK(ft_request_tokens(&count, again, logprobs, 30, request));
        CHECK(count == 30);
        for (int i = 0; i < 30; ++i) CHECK(logprobs[i] <= 0 && logprobs[i] > -50);
        ft_request_release(request);
        ft_session_destroy(session);
        ft_model_close(llama);
    }
}

/* What came since some tokens were known: no more is copied, whoever asks from where. */
void test_tokens_from(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t prompt[3] = {5, 6, 7};
    ft_generate_options options = greedy(20);
    ft_request *request;
    int32_t known[20], all[20];
    float logprobs[20], all_logprobs[20];
    size_t seen = 0, count = 0, active = 1;
    options.logprobs = FT_LOGPROBS_RAW;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
    while (active > 0) {
        CHECK_OK(ft_session_step(&active, session));
        CHECK_OK(ft_request_tokens_from(&count, known + seen, logprobs + seen, 20 - seen, seen, request));
        CHECK(count >= seen && count <= 20);
        seen = count;
    }
    CHECK_OK(ft_request_tokens(&count, all, all_logprobs, 20, request));
    CHECK(count == 20 && seen == 20);
    CHECK(!memcmp(all, known, sizeof all) && !memcmp(all_logprobs, logprobs, sizeof logprobs));

    int32_t some[4] = {-1, -1, -1, -1};
    CHECK_OK(ft_request_tokens_from(&count, some, NULL, 2, 17, request)); /* room for two of three */
    CHECK(count == 20 && some[0] == all[17] && some[1] == all[18] && some[2] == -1);
    CHECK_OK(ft_request_tokens_from(NULL, some + 2, NULL, 2, 20, request));
    CHECK_OK(ft_request_tokens_from(NULL, some + 2, NULL, 2, (size_t)-1, request));
    CHECK(some[2] == -1 && some[3] == -1);
    CHECK_INVALID(ft_request_tokens_from(&count, some, NULL, 2, 0, NULL));
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(llama);
}

typedef struct {
    int calls, end_at, answer;
    int32_t tokens[64];
    ft_status cancelled;
    int cancel_from_inside;
} seen;

static int on_token(ft_request *request, int32_t token, void *user_data) {
    seen *s = user_data;
    if (s->calls < 64) s->tokens[s->calls] = token;
    if (s->cancel_from_inside && s->calls + 1 == s->end_at) s->cancelled = ft_request_cancel(request);
    return ++s->calls == s->end_at ? s->answer : FT_CONTINUE;
}

void test_generation_callbacks(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t prompt[3] = {5, 6, 7};
    ft_generate_options options = greedy(12);
    ft_request *request;
    ft_finish_reason reason;
    size_t count;
    int32_t tokens[12];

    seen all = {0};
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, on_token, NULL, &all));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_tokens(&count, tokens, NULL, 12, request));
    CHECK_OK(ft_request_poll(&reason, request));
    CHECK(reason == FT_FINISH_LENGTH && count == 12 && all.calls == 12);
    CHECK(!memcmp(tokens, all.tokens, sizeof tokens));
    ft_request_release(request);

    seen stop = {.end_at = 4, .answer = FT_STOP};
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, on_token, NULL, &stop));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_poll(&reason, request));
    CHECK_OK(ft_request_tokens(&count, NULL, NULL, 0, request));
    CHECK(reason == FT_FINISH_STOP && count == 4 && stop.calls == 4);
    ft_request_release(request);

    for (int inside = 0; inside < 2; ++inside) {
        seen cancel = {.end_at = 4, .answer = inside ? FT_CONTINUE : -1, .cancel_from_inside = inside};
        CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, on_token, NULL, &cancel));
        CHECK_STATUS(FT_ERROR_CANCELLED, ft_request_wait(request));
        CHECK(!strcmp(ft_last_error(), ft_request_error(request)) && ft_last_error()[0]);
        CHECK_OK(ft_request_poll(&reason, request));
        CHECK_OK(ft_request_tokens(&count, NULL, NULL, 0, request));
        CHECK(reason == FT_FINISH_CANCELLED && count >= 3 && count <= 4 && cancel.calls == 4);
        CHECK(cancel.cancelled == FT_OK);
        ft_request_release(request);
    }

    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_generation_cancel(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t prompt[3] = {5, 6, 7};
    ft_generate_options options = greedy(200);
    ft_request *requests[8];
    ft_finish_reason reason;
    ft_session_stats stats = FT_SESSION_STATS_INIT;
    size_t active = 0;
    for (int i = 0; i < 8; ++i)
        CHECK_OK(ft_session_submit(&requests[i], session, prompt, 3, &options, NULL, NULL, NULL));
    CHECK_OK(ft_request_cancel(requests[0])); /* before it ran at all */
    for (int i = 0; i < 5; ++i) CHECK_OK(ft_session_step(&active, session));
    CHECK(active == 7);
    CHECK_OK(ft_request_poll(&reason, requests[3]));
    CHECK(reason == FT_FINISH_NONE);
    for (int i = 1; i < 8; i += 2) CHECK_OK(ft_request_cancel(requests[i]));
    for (int i = 0; i < 8; ++i) {
        int cancelled = i == 0 || i % 2;
        CHECK_STATUS(cancelled ? FT_ERROR_CANCELLED : FT_OK, ft_request_wait(requests[i]));
        CHECK_OK(ft_request_poll(&reason, requests[i]));
        CHECK(reason == (cancelled ? FT_FINISH_CANCELLED : FT_FINISH_LENGTH));
        CHECK_OK(ft_request_cancel(requests[i])); /* too late, and harmless */
    }
    CHECK_OK(ft_session_get_stats(&stats, session));
    CHECK(stats.pages_in_use == 0 && stats.pages_total > 0 && stats.page_tokens > 0 && stats.page_bytes > 0);
    for (int i = 0; i < 8; ++i) ft_request_release(requests[i]);

    /* Releasing a running request cancels it. */
    CHECK_OK(ft_session_submit(&requests[0], session, prompt, 3, &options, NULL, NULL, NULL));
    CHECK_OK(ft_session_step(&active, session));
    CHECK(active == 1);
    ft_request_release(requests[0]);
    CHECK_OK(ft_session_step(&active, session));
    CHECK_OK(ft_session_step(&active, session));
    CHECK(active == 0);
    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_prompt_logprobs(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    ft_request *request = NULL;
    const int32_t prompt[4] = {5, 6, 7, 8};
    float values[4] = {0}, untouched = 9.0f, logprob;
    size_t count = 0;
    ft_generate_options options = greedy(2);
    CHECK_OK(ft_session_submit(&request, session, prompt, 4, &options, NULL, NULL, NULL));
    CHECK_INVALID(ft_request_prompt_logprobs(&count, values, 4, request)); /* they were not asked for */
    CHECK_INVALID(ft_request_prompt_logprobs(&count, values, 4, NULL));
    ft_request_release(request);

    options.prompt_logprobs = 1;
    CHECK_OK(ft_session_submit(&request, session, prompt, 4, &options, NULL, NULL, NULL));
    CHECK_OK(ft_request_prompt_logprobs(&count, values, 4, request));
    CHECK(count == 4 && isnan(values[0]) && isnan(values[3])); /* nothing is computed yet */
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_prompt_logprobs(NULL, NULL, 0, request));
    values[3] = untouched;
    CHECK_OK(ft_request_prompt_logprobs(&count, values, 3, request));
    CHECK(count == 4 && isnan(values[0]) && values[1] < 0.0f && values[2] < 0.0f && values[3] == untouched);
    CHECK_OK(ft_request_prompt_logprobs(NULL, values, 4, request));
    ft_request_release(request);

    /* The last one is what generation would have given the token after the first three. */
    options = greedy(1);
    options.logprobs = FT_LOGPROBS_RAW;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_tokens(NULL, NULL, &logprob, 1, request));
    CHECK(values[3] <= logprob + 1e-5f);
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_prefix_cache(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session_options off = FT_SESSION_OPTIONS_INIT;
    off.prefix_cache = 0;
    ft_session *keeping = open_session(llama), *forgetting;
    CHECK_OK(ft_session_create(&forgetting, llama, &off));
    ft_session *const sessions[2] = {keeping, forgetting};
    int32_t prompt[60], expected[10], got[10];
    make_prompt(prompt, 60, 1);
    ft_generate_options options = greedy(10);
    for (int s = 0; s < 2; ++s) {
        for (int i = 0; i < 3; ++i) {
            CHECK(generate(i + s ? got : expected, 10, sessions[s], prompt, 60, &options) == 10);
            CHECK(i + s == 0 || !memcmp(got, expected, sizeof got));
        }
        ft_session_stats stats = FT_SESSION_STATS_INIT;
        CHECK_OK(ft_session_get_stats(&stats, sessions[s]));
        CHECK(stats.prompt_tokens_reused == (s == 0 ? 2 * 48 : 0));
        CHECK(stats.prompt_tokens == 180 - stats.prompt_tokens_reused);
        CHECK(stats.pages_kept == (s == 0 ? 4 : 0)); /* of 60 prompt tokens and 9 new ones */
        ft_session_destroy(sessions[s]);
    }
    ft_model_close(llama);
}

void test_generation_limits(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session_options small = FT_SESSION_OPTIONS_INIT;
    small.max_batch_size = 2;
    small.max_tokens_per_step = 8;
    small.kv_cache_bytes = 128 * 1024;
    ft_session *session, *roomy = open_session(llama);
    CHECK_OK(ft_session_create(&session, llama, &small));

    /* Long prompts in small steps, more requests than fit at once: the same tokens as with room. */
    int32_t prompt[5][60], expected[5][10], got[10];
    ft_request *requests[5];
    ft_generate_options options = greedy(10);
    for (unsigned r = 0; r < 5; ++r) {
        make_prompt(prompt[r], 60, r);
        CHECK(generate(expected[r], 10, roomy, prompt[r], 60, &options) == 10);
        CHECK_OK(ft_session_submit(&requests[r], session, prompt[r], 60, &options, NULL, NULL, NULL));
    }
    for (int r = 0; r < 5; ++r) {
        size_t count;
        CHECK_OK(ft_request_wait(requests[r]));
        CHECK_OK(ft_request_tokens(&count, got, NULL, 10, requests[r]));
        CHECK(count == 10 && !memcmp(got, expected[r], sizeof got));
        ft_request_release(requests[r]);
    }
    ft_session_stats stats = FT_SESSION_STATS_INIT;
    CHECK_OK(ft_session_get_stats(&stats, session));
    CHECK(stats.generated_tokens == 50 && stats.prompt_tokens + stats.prompt_tokens_reused >= 300);
    CHECK(stats.pages_in_use == 0 && stats.pages_kept <= stats.pages_total);
    CHECK((uint64_t)stats.pages_total * stats.page_bytes <= 128 * 1024);
    ft_session_destroy(session);

    /* The model's last position ends a request; a prompt beyond it is refused. */
    static int32_t long_prompt[300];
    make_prompt(long_prompt, 300, 3);
    ft_request *request = NULL;
    ft_finish_reason reason;
    size_t count;
    options = greedy(100);
    CHECK_OK(ft_session_submit(&request, roomy, long_prompt, 250, &options, NULL, NULL, NULL));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_poll(&reason, request));
    CHECK_OK(ft_request_tokens(&count, NULL, NULL, 0, request));
    CHECK(reason == FT_FINISH_LENGTH && count >= 6 && count <= 7);
    ft_request_release(request);
    request = NULL;
    CHECK_INVALID(ft_session_submit(&request, roomy, long_prompt, 300, &options, NULL, NULL, NULL));
    CHECK(request == NULL);

    /* One that could never fit the pages says so when it is submitted. */
    small.kv_cache_bytes = 16 * 1024;
    if (ft_session_create(&session, llama, &small) == FT_OK) {
        CHECK_STATUS(FT_ERROR_OUT_OF_MEMORY,
                     ft_session_submit(&request, session, long_prompt, 200, &options, NULL, NULL, NULL));
        CHECK(strpbrk(ft_last_error(), "0123456789"));
        ft_session_destroy(session);
    } else {
        CHECK(strpbrk(ft_last_error(), "0123456789")); /* too small for a single page: that is named too */
    }
    ft_session_destroy(roomy);
    ft_model_close(llama);
}
