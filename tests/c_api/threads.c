/* One handle used from many threads at once. Run under ThreadSanitizer by `make sanitize`. */
#include <pthread.h>
#include <stdlib.h>

#include "harness.h"

enum { num_threads = 6, rounds = 5, new_tokens = 12, prompt_length = 9 };

static void in_threads(void *(*body)(void *), void *arguments, size_t size) {
    pthread_t threads[num_threads];
    for (int t = 0; t < num_threads; ++t)
        CHECK(!pthread_create(&threads[t], NULL, body, (char *)arguments + size * (size_t)t));
    for (int t = 0; t < num_threads; ++t) pthread_join(threads[t], NULL);
}

typedef struct {
    ft_model *model;
    ft_session *session;
    unsigned index;
    int32_t prompt[prompt_length], expected[new_tokens];
} worker;

static void make_workers(worker *workers, ft_model *model, ft_session *session) {
    ft_generate_options options = greedy(new_tokens);
    for (unsigned t = 0; t < num_threads; ++t) {
        workers[t] = (worker){.model = model, .session = session, .index = t};
        make_prompt(workers[t].prompt, prompt_length, t + 100);
        CHECK(generate(workers[t].expected, new_tokens, session, workers[t].prompt, prompt_length, &options) ==
              new_tokens);
    }
}

/* Each thread's requests give what they gave alone, whatever the others submit and cancel beside them. */
static void *submit_and_wait(void *argument) {
    worker *w = argument;
    ft_generate_options options = greedy(new_tokens), endless = greedy(200);
    for (int round = 0; round < rounds; ++round) {
        ft_request *wanted, *dropped;
        ft_finish_reason reason;
        int32_t tokens[new_tokens];
        CHECK_OK(ft_session_submit(&dropped, w->session, w->prompt, prompt_length, &endless, NULL, NULL, NULL));
        CHECK_OK(ft_session_submit(&wanted, w->session, w->prompt, prompt_length, &options, NULL, NULL, NULL));
        if (round % 2) CHECK_OK(ft_request_cancel(dropped));
        CHECK_OK(ft_request_wait(wanted));
        CHECK_OK(ft_request_tokens(NULL, tokens, NULL, new_tokens, wanted));
        CHECK(!memcmp(tokens, w->expected, sizeof tokens));
        if (round % 2) {
            CHECK_STATUS(FT_ERROR_CANCELLED, ft_request_wait(dropped));
            CHECK_OK(ft_request_poll(&reason, dropped));
            CHECK(reason == FT_FINISH_CANCELLED);
        }
        ft_request_release(dropped);
        ft_request_release(wanted);
    }
    return NULL;
}

void test_threads_one_session(void) {
    ft_model *model = open_tiny("llama", 2);
    ft_session *session = open_session(model);
    worker workers[num_threads];
    make_workers(workers, model, session);
    in_threads(submit_and_wait, workers, sizeof *workers);
    ft_session_destroy(session);
    ft_model_close(model);
}

typedef struct {
    ft_session *session;
    ft_request *request;
    atomic_int *unfinished;
} watcher;

/* Steps without ever waiting, and reads the tokens of a request while another thread may be writing them. */
static void *step_and_poll(void *argument) {
    watcher *w = argument;
    size_t before = 0, count;
    int32_t tokens[100];
    while (atomic_load(w->unfinished)) {
        ft_finish_reason reason;
        ft_session_stats stats = FT_SESSION_STATS_INIT;
        CHECK_OK(ft_session_step(NULL, w->session));
        CHECK_OK(ft_request_poll(&reason, w->request));
        CHECK_OK(ft_request_tokens(&count, tokens, NULL, 100, w->request));
        CHECK(count >= before);
        for (size_t i = 0; i < count; ++i) CHECK(tokens[i] >= 0 && tokens[i] < 96);
        CHECK_OK(ft_session_get_stats(&stats, w->session));
        before = count;
        if (reason != FT_FINISH_NONE) break;
    }
    return NULL;
}

void test_threads_step_and_poll(void) {
    ft_model *model = open_tiny("llama", 1);
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(100);
    const int32_t prompt[3] = {5, 6, 7};
    atomic_int unfinished = 1;
    ft_request *request;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
    watcher watchers[num_threads];
    for (int t = 0; t < num_threads; ++t) watchers[t] = (watcher){session, request, &unfinished};
    in_threads(step_and_poll, watchers, sizeof *watchers);
    CHECK_OK(ft_request_wait(request));
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(model);
}

static void *open_and_close(void *argument) {
    const unsigned index = *(const unsigned *)argument;
    for (int round = 0; round < 3; ++round) {
        ft_model *model = open_tiny(index % 2 ? "llama" : "llama.gguf", 1 + (int)index % 2);
        ft_session *session = open_session(model);
        ft_generate_options options = greedy(4);
        int32_t prompt[4], tokens[4];
        make_prompt(prompt, 4, index);
        CHECK(generate(tokens, 4, session, prompt, 4, &options) == 4);
        if (round % 2) ft_model_close(model);
        ft_session_destroy(session);
        if (round % 2 == 0) ft_model_close(model);
        ft_checkpoint *broken;
        CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_checkpoint_open(&broken, tiny("truncated")));
        CHECK(strstr(ft_last_error(), "truncated"));
    }
    return NULL;
}

/* Models come and go in all threads, and one model's passes run beside its generation. */
static void *forward_beside(void *argument) {
    worker *w = argument;
    if (w->index % 2) return submit_and_wait(argument);
    int64_t shape[2] = {1, prompt_length};
    ft_dl_tensor view = {w->prompt, {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_INT, 32, 1}, shape, NULL, 0}, first, again;
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs once = FT_FORWARD_OUTPUTS_INIT, more = FT_FORWARD_OUTPUTS_INIT;
    ft_tensor *ids = NULL;
    CHECK_OK(ft_tensor_wrap(&ids, &view, NULL, NULL));
    in.input_ids = ids;
    CHECK_OK(ft_forward(&once, w->model, &in, NULL));
    CHECK_OK(ft_tensor_view(&first, once.logits));
    for (int round = 0; round < rounds; ++round) {
        CHECK_OK(ft_forward(&more, w->model, &in, NULL));
        CHECK_OK(ft_tensor_view(&again, more.logits));
        CHECK(!memcmp(first.data, again.data, sizeof(float) * prompt_length * 96));
        ft_tensor_release(more.logits);
        ft_tensor_release(more.last_hidden_state);
    }
    ft_tensor_release(once.logits);
    ft_tensor_release(once.last_hidden_state);
    ft_tensor_release(ids);
    return NULL;
}

void test_threads_models(void) {
    unsigned indices[num_threads];
    for (unsigned t = 0; t < num_threads; ++t) indices[t] = t;
    in_threads(open_and_close, indices, sizeof *indices);

    ft_model *model = open_tiny("llama", 2);
    ft_session *session = open_session(model);
    worker workers[num_threads];
    make_workers(workers, model, session);
    in_threads(forward_beside, workers, sizeof *workers);
    ft_session_destroy(session);
    ft_model_close(model);
}

static void count_release(void *user_data) { atomic_fetch_add((atomic_int *)user_data, 1); }

static void *retain_and_release(void *argument) {
    ft_tensor *tensor = *(ft_tensor **)argument;
    for (int i = 0; i < 1000; ++i) {
        ft_dl_tensor view;
        ft_tensor_retain(tensor);
        CHECK_OK(ft_tensor_view(&view, tensor));
        ft_tensor_release(tensor);
    }
    ft_tensor_release(tensor); /* this thread's own reference */
    return NULL;
}

void test_threads_share_tensor(void) {
    float data[4] = {0};
    int64_t shape[1] = {4};
    atomic_int released = 0;
    ft_dl_tensor view = {data, {FT_DEVICE_CPU, 0}, 1, {FT_DTYPE_FLOAT, 32, 1}, shape, NULL, 0};
    ft_tensor *tensor, *copies[num_threads];
    CHECK_OK(ft_tensor_wrap(&tensor, &view, count_release, &released));
    for (int t = 0; t < num_threads; ++t) copies[t] = tensor;
    for (int t = 1; t < num_threads; ++t) ft_tensor_retain(tensor);
    in_threads(retain_and_release, copies, sizeof *copies);
    CHECK(atomic_load(&released) == 1);
}
