/* Handles may be closed in any order: what is made from another keeps what it needs of it. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static const int32_t prompt[3] = {5, 6, 7};

void test_closing_model_first(void) {
    ft_model *model = open_tiny("llama", 2);
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(16);
    int32_t with[16], without[16];
    CHECK(generate(with, 16, session, prompt, 3, &options) == 16);
    ft_model_close(model);
    CHECK(generate(without, 16, session, prompt, 3, &options) == 16);
    CHECK(!memcmp(with, without, sizeof with));
    ft_session_destroy(session);
}

void test_closing_session_first(void) {
    ft_model *model = open_tiny("llama", 1);
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(100);
    ft_request *done, *half_way, *waiting;
    ft_finish_reason reason;
    size_t count;
    int32_t token;
    CHECK_OK(ft_session_submit(&done, session, prompt, 3, &options, NULL, NULL, NULL));
    CHECK_OK(ft_request_wait(done));
    CHECK_OK(ft_session_submit(&half_way, session, prompt, 3, &options, NULL, NULL, NULL));
    for (int i = 0; i < 4; ++i) CHECK_OK(ft_session_step(NULL, session));
    CHECK_OK(ft_session_submit(&waiting, session, prompt, 3, &options, NULL, NULL, NULL));
    ft_session_destroy(session);

    CHECK_OK(ft_request_wait(done));
    CHECK_STATUS(FT_ERROR_CANCELLED, ft_request_wait(half_way));
    CHECK_STATUS(FT_ERROR_CANCELLED, ft_request_wait(waiting));
    CHECK_OK(ft_request_poll(&reason, half_way));
    CHECK(reason == FT_FINISH_CANCELLED && ft_request_error(half_way)[0]);
    CHECK_OK(ft_request_tokens(&count, &token, NULL, 1, half_way));
    CHECK(count == 4);
    CHECK_OK(ft_request_tokens(&count, NULL, NULL, 0, done));
    CHECK(count == 100);
    CHECK_OK(ft_request_cancel(half_way));
    ft_model_close(model);
    ft_request_release(waiting);
    ft_request_release(done);
    ft_request_release(half_way);
}

/* Every order of closing a checkpoint, a model, a session and a running request. */
void test_closing_every_order(void) {
    for (int order = 0; order < 24; ++order) {
        int left[4] = {0, 1, 2, 3}, n = 4, code = order;
        ft_checkpoint *checkpoint = NULL;
        CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("llama")));
        ft_model *model = open_tiny("llama", 1 + order % 2);
        ft_session *session = open_session(model);
        ft_generate_options options = greedy(50);
        ft_request *request;
        CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
        CHECK_OK(ft_session_step(NULL, session));
        for (; n > 0; --n) {
            const int at = code % n, which = left[at];
            code /= n;
            left[at] = left[n - 1];
            if (which == 0) ft_checkpoint_close(checkpoint);
            if (which == 1) ft_model_close(model);
            if (which == 2) ft_session_destroy(session);
            if (which == 3) ft_request_release(request);
        }
    }
}

static int release_inside(ft_request *request, int32_t token, void *user_data) {
    (void)token;
    ft_request_release(request);
    ++*(int *)user_data;
    return FT_CONTINUE;
}

void test_closing_tensors_last(void) {
    ft_model *model = open_tiny("llama", 1);
    int64_t shape[2] = {1, 3};
    ft_dl_tensor view = {(void *)prompt, {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_INT, 32, 1}, shape, NULL, 0};
    ft_tensor *input;
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    CHECK_OK(ft_tensor_wrap(&input, &view, NULL, NULL));
    in.input_ids = input;
    CHECK_OK(ft_forward(&out, model, &in, NULL));
    ft_tensor_release(input);
    ft_dl_managed_tensor *managed;
    CHECK_OK(ft_tensor_to_dlpack(&managed, out.logits));
    ft_tensor_release(out.logits);
    ft_tensor_release(out.last_hidden_state);

    /* A callback may drop its own request; the session goes on. */
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(10);
    ft_request *request;
    int calls = 0;
    size_t active = 1;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, release_inside, NULL, &calls));
    for (int i = 0; i < 3 && active; ++i) CHECK_OK(ft_session_step(&active, session));
    CHECK(calls == 1 && active == 0);
    ft_session_destroy(session);
    ft_model_close(model);

    const float *logits = (const float *)((char *)managed->dl_tensor.data + managed->dl_tensor.byte_offset);
    float sum = 0;
    for (int i = 0; i < 3 * 96; ++i) sum += logits[i] * logits[i];
    CHECK(sum > 0);
    managed->deleter(managed);
}

/* In a child after fork(), handles of the parent are refused and may be dropped; new ones work. */
void test_forked_child(void) {
    ft_model *model = open_tiny("llama", 2);
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(8);
    ft_request *request;
    int32_t expected[8], tokens[8];
    CHECK(generate(expected, 8, session, prompt, 3, &options) == 8);
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &options, NULL, NULL, NULL));
    fflush(stdout);
    const int before = atomic_load(&failed_checks);
    const pid_t child = fork();
    if (child == 0) {
        ft_session *other = NULL;
        ft_request *refused = NULL;
        CHECK_STATUS(FT_ERROR_FORKED, ft_request_wait(request));
        CHECK_STATUS(FT_ERROR_FORKED, ft_session_step(NULL, session));
        CHECK_STATUS(FT_ERROR_FORKED, ft_session_create(&other, model, NULL));
        CHECK_STATUS(FT_ERROR_FORKED, ft_session_submit(&refused, session, prompt, 3, NULL, NULL, NULL, NULL));
        ft_request_release(request);
        ft_session_destroy(session);
        ft_model_close(model);
        model = open_tiny("llama", 1);
        session = open_session(model);
        CHECK(generate(tokens, 8, session, prompt, 3, &options) == 8);
        CHECK(!memcmp(tokens, expected, sizeof tokens));
        ft_session_destroy(session);
        ft_model_close(model);
        fflush(stdout);
        _exit(atomic_load(&failed_checks) != before);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_OK(ft_request_wait(request)); /* the parent did not notice */
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(model);
}
