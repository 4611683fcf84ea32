/* Callbacks that steer: what they see of a step's logits, what comes of what they write there, and in what order. */
#include <math.h>
#include <stdint.h>

#include "harness.h"

enum { VOCAB = 96, NEW = 8 };

static const int32_t prompt[3] = {5, 6, 7};

/* What a callback is to do, and what it saw. */
typedef struct {
    int calls, calls_constrained;
    int cancel_at;       /* the call that cancels; 0: none */
    int answer;          /* with which value */
    int32_t banned[NEW]; /* tokens */
    size_t num_banned;
    const int32_t *only;  /* the two tokens that may come, equally likely; NULL: any */
    double largest_error; /* of Σ exp(logits), which is 1 for log-probabilities */
    size_t finite;        /* at the last call, before it wrote anything */
} steering;

static float *checked(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                      const ft_dl_tensor *logits) {
    CHECK(request != NULL && prompt_length == 3 && num_tokens >= 3 && !memcmp(tokens, prompt, sizeof prompt));
    CHECK(logits->device.device_type == FT_DEVICE_CPU && logits->device.device_id == 0);
    CHECK(logits->dtype.code == FT_DTYPE_FLOAT && logits->dtype.bits == 32 && logits->dtype.lanes == 1);
    CHECK(logits->ndim == 1 && logits->shape[0] == VOCAB && (!logits->strides || logits->strides[0] == 1));
    CHECK(logits->byte_offset == 0);
    return logits->data;
}

static int steer(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                 const ft_dl_tensor *logits, void *user_data) {
    steering *s = user_data;
    float *row = checked(request, tokens, num_tokens, prompt_length, logits);
    double sum = 0;
    s->finite = 0;
    for (int v = 0; v < VOCAB; ++v) {
        sum += exp(row[v]);
        s->finite += isfinite(row[v]) != 0;
    }
    s->largest_error = fmax(s->largest_error, fabs(sum - 1));
    for (size_t i = 0; i < s->num_banned; ++i) row[s->banned[i]] = -INFINITY;
    for (int v = 0; v < VOCAB && s->only; ++v) row[v] = v == s->only[0] || v == s->only[1] ? 0.0f : -INFINITY;
    return ++s->calls == s->cancel_at ? s->answer : FT_CONTINUE;
}

/* Leaves token 11 alone, whatever came before. */
static int only_eleven(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                       const ft_dl_tensor *logits, void *user_data) {
    steering *s = user_data;
    float *row = checked(request, tokens, num_tokens, prompt_length, logits);
    for (int v = 0; v < VOCAB; ++v) row[v] = v == 11 ? 0.0f : -INFINITY;
    ++s->calls_constrained;
    return FT_CONTINUE;
}

static size_t steered(int32_t *tokens, ft_session *session, const ft_generate_options *options, steering *s) {
    ft_request *request = NULL;
    size_t count = 0;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, options, NULL, steer, s));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_tokens(&count, tokens, NULL, NEW, request));
    ft_request_release(request);
    return count;
}

void test_steering_bans(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    int32_t plain[NEW], ours[NEW], theirs[NEW];
    const int32_t ones[NEW] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (int32_t beams = 1; beams <= 3; beams += 2) {
        ft_generate_options options = greedy(NEW);
        options.num_beams = beams;
        CHECK(generate(plain, NEW, session, prompt, 3, &options) == NEW);
        steering watching = {0}, banning = {.num_banned = NEW};
        CHECK(steered(ours, session, &options, &watching) == NEW);
        CHECK(!memcmp(ours, plain, sizeof plain)); /* who changes nothing changes nothing */
        CHECK(beams > 1 ? watching.calls > NEW : watching.calls == NEW);
        CHECK(beams > 1 ? watching.largest_error < 1e-4 : watching.largest_error > 1e-2);

        /* What a callback bans, the library's own ban would have banned. */
        memcpy(banning.banned, plain, sizeof plain);
        CHECK(steered(ours, session, &options, &banning) == NEW);
        options.bad_words = plain;
        options.bad_word_lengths = ones;
        options.num_bad_words = NEW;
        CHECK(generate(theirs, NEW, session, prompt, 3, &options) == NEW);
        CHECK(!memcmp(ours, theirs, sizeof ours));
        for (int i = 0; i < NEW; ++i)
            for (int j = 0; j < NEW; ++j) CHECK(ours[i] != plain[j]);
    }
    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_steering_samples(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t pair[2] = {42, 43};
    int seen[VOCAB] = {0};
    ft_generate_options options = greedy(NEW);
    options.do_sample = 1;
    options.num_return_sequences = 4;
    steering s = {.only = pair};
    for (options.seed = 0; options.seed < 40; options.seed += 4) {
        ft_request *request = NULL;
        CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, steer, &s));
        CHECK_OK(ft_request_wait(request));
        for (size_t i = 0; i < 4; ++i) {
            int32_t tokens[NEW];
            ft_sequence sequence = FT_SEQUENCE_INIT;
            CHECK_OK(ft_request_get_sequence(&sequence, tokens, NULL, NEW, i, request));
            CHECK(sequence.num_tokens == NEW);
            for (int t = 0; t < NEW; ++t) ++seen[tokens[t]];
        }
        ft_request_release(request);
    }
    const int draws = 40 * NEW;
    CHECK(s.calls == draws && seen[42] + seen[43] == draws);
    CHECK(seen[42] > draws / 4 && seen[43] > draws / 4); /* a fair coin misses this once in 10^18 */
    ft_session_destroy(session);
    ft_model_close(llama);
}

/* Constraint, forced tokens, on_logits: each overrules those before it. */
void test_steering_order(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t pair[2] = {42, 43};
    int32_t tokens[NEW];
    for (int32_t beams = 1; beams <= 2; ++beams) {
        ft_generate_options options = greedy(NEW);
        options.num_beams = beams;
        options.constrain_logits = only_eleven;
        options.forced_eos_token_id = 9;
        steering watching = {0}, choosing = {.only = pair};
        if (beams == 1) { /* one continuation is too few for beams to go on with */
            CHECK(steered(tokens, session, &options, &watching) == NEW);
            for (int i = 0; i < NEW; ++i) CHECK(tokens[i] == (i < NEW - 1 ? 11 : 9));
            CHECK(watching.calls == NEW && watching.calls_constrained == NEW && watching.finite == 1);
        }
        CHECK(steered(tokens, session, &options, &choosing) == NEW);
        for (int i = 0; i < NEW; ++i) CHECK(tokens[i] == 42 || tokens[i] == 43);
        CHECK(choosing.calls == choosing.calls_constrained && choosing.finite == 1);
    }
    ft_session_destroy(session);
    ft_model_close(llama);
}

void test_steering_cancels(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    for (int beams = 1; beams <= 3; beams += 2)
        for (int sampled = 0; sampled < 2; ++sampled)
            for (int stop = 0; stop < 2; ++stop) { /* FT_STOP is no answer here: it cancels, as all but FT_CONTINUE */
                ft_generate_options options = greedy(NEW);
                options.num_beams = beams;
                options.do_sample = sampled;
                steering s = {.cancel_at = 4, .answer = stop ? FT_STOP : -1};
                ft_request *request = NULL;
                ft_finish_reason reason;
                CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, steer, &s));
                CHECK_STATUS(FT_ERROR_CANCELLED, ft_request_wait(request));
                CHECK(strstr(ft_request_error(request), "logits") != NULL);
                CHECK_OK(ft_request_poll(&reason, request));
                CHECK(reason == FT_FINISH_CANCELLED && s.calls == 4);
                ft_request_release(request);
            }
    ft_session_stats stats = FT_SESSION_STATS_INIT;
    CHECK_OK(ft_session_get_stats(&stats, session));
    CHECK(stats.pages_in_use == 0);
    ft_session_destroy(session);
    ft_model_close(llama);
}
