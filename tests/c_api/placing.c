/* Where a model lies: a caller's allocator that counts, refuses and misbehaves; streams; tensors that lie elsewhere. */
#include <stdint.h>
#include <stdlib.h>

#include "harness.h"

/* Gives memory until `left` calls have been made; keeps what it gave in a list of sizes. */
typedef struct {
    long left, calls;
    int64_t bytes_out;
    size_t offset; /* of what it gives, from 256 bytes */
    int wrong_returns;
} giver;

typedef struct {
    size_t bytes;
    char room[256 - sizeof(size_t)];
} header;

static void *give(void *user_data, size_t bytes, int32_t device) {
    giver *g = user_data;
    ++g->calls;
    if (device != 0 || g->left-- <= 0) return NULL;
    header *h = aligned_alloc(256, sizeof(header) + (bytes + 511) / 256 * 256);
    if (!h) return NULL;
    h->bytes = bytes;
    g->bytes_out += (int64_t)bytes;
    return (char *)(h + 1) + g->offset;
}

static void take_back(void *user_data, void *data, size_t bytes, int32_t device) {
    giver *g = user_data;
    header *h = (header *)((char *)data - g->offset) - 1;
    if (device != 0 || h->bytes != bytes) ++g->wrong_returns;
    g->bytes_out -= (int64_t)bytes;
    free(h);
}

static ft_model_options lent_by(giver *g) {
    ft_model_options options = FT_MODEL_OPTIONS_INIT;
    options.device = "cpu";
    options.num_threads = 1;
    options.allocate = give;
    options.deallocate = take_back;
    options.allocator_data = g;
    return options;
}

/* Loads, generates and closes; `tokens` gets what was generated. The first failure's status. */
static ft_status run(const ft_model_options *options, int32_t tokens[8]) {
    const int32_t prompt[3] = {5, 6, 7};
    ft_model *model = NULL;
    ft_session *session = NULL;
    ft_request *request = NULL;
    ft_session_options bounds = FT_SESSION_OPTIONS_INIT;
    bounds.kv_cache_bytes = 1 << 16;
    ft_generate_options settings = greedy(8);
    ft_status status = ft_model_open(&model, tiny("llama"), options);
    if (status == FT_OK) status = ft_session_create(&session, model, &bounds);
    if (status == FT_OK) status = ft_session_submit(&request, session, prompt, 3, &settings, NULL, NULL, NULL);
    if (status == FT_OK) status = ft_request_wait(request);
    if (status == FT_OK) CHECK_OK(ft_request_tokens(NULL, tokens, NULL, 8, request));
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(model);
    return status;
}

void test_allocator(void) {
    giver plenty = {INT32_MAX, 0, 0, 0, 0};
    ft_model_options options = lent_by(&plenty), own = FT_MODEL_OPTIONS_INIT;
    int32_t with[8], without[8];
    own.device = "cpu";
    CHECK_OK(run(&own, without));
    CHECK_OK(run(&options, with));
    CHECK(!memcmp(with, without, sizeof with));
    CHECK(plenty.calls > 5 && plenty.bytes_out == 0 && plenty.wrong_returns == 0);

    ft_status status = FT_ERROR_OUT_OF_MEMORY;
    for (long n = 0; n < plenty.calls; ++n) { /* refuses the call after the n-th, and all that follow */
        giver few = {n, 0, 0, 0, 0};
        options = lent_by(&few);
        provoke_other_message();
        status = run(&options, with);
        CHECK(status == FT_ERROR_OUT_OF_MEMORY && strstr(ft_last_error(), "allocator"));
        CHECK(few.bytes_out == 0 && few.wrong_returns == 0);
    }
    options = lent_by(&plenty);
    CHECK_OK(run(&options, with));

    giver askew = {INT32_MAX, 0, 0, 64, 0};
    options = lent_by(&askew);
    CHECK_INVALID(run(&options, with));
    CHECK(strstr(ft_last_error(), "256"));
    CHECK(askew.bytes_out == 0 && askew.wrong_returns == 0);
}

/* A session whose step finds no memory goes on. */
void test_allocator_recovers(void) {
    giver g = {INT32_MAX, 0, 0, 0, 0};
    ft_model_options options = lent_by(&g);
    ft_model *model = NULL;
    CHECK_OK(ft_model_open(&model, tiny("llama"), &options));
    ft_session *session = open_session(model);
    ft_generate_options settings = greedy(8);
    const int32_t prompt[3] = {5, 6, 7};
    int32_t tokens[8];
    ft_request *request = NULL;
    g.left = 0;
    CHECK_OK(ft_session_submit(&request, session, prompt, 3, &settings, NULL, NULL, NULL));
    CHECK_STATUS(FT_ERROR_OUT_OF_MEMORY, ft_request_wait(request));
    ft_request_release(request);
    g.left = INT32_MAX;
    CHECK(generate(tokens, 8, session, prompt, 3, &settings) == 8);
    ft_model_close(model);
    CHECK(g.bytes_out > 0); /* the session has it still */
    ft_session_destroy(session);
    CHECK(g.bytes_out == 0);
}

void test_placing_misuse(void) {
    ft_model *model = NULL;
    giver g = {INT32_MAX, 0, 0, 0, 0};
    ft_model_options options = lent_by(&g);
    options.deallocate = NULL;
    CHECK_INVALID(ft_model_open(&model, tiny("llama"), &options));
    options = lent_by(&g);
    options.allocate = NULL;
    CHECK_INVALID(ft_model_open(&model, tiny("llama"), &options));
    options = lent_by(&g);
    options.stream = &g;
    CHECK_INVALID(ft_model_open(&model, tiny("llama"), &options)); /* the CPU has no streams */
    options.stream = (void *)2;
    CHECK_INVALID(ft_model_open(&model, tiny("llama"), &options));
    CHECK(model == NULL && g.calls == 0);
}

/* Tensors in host memory are always ready; those of a device that is not here can be held, not read. */
void test_tensor_elsewhere(void) {
    float values[6] = {0, 1, 2, 3, 4, 5};
    int64_t shape[2] = {3, 2}, turned[2] = {1, 3}, backwards[2] = {-2, 1};
    ft_dl_tensor view = {values, {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_FLOAT, 32, 1}, shape, turned, 0}, copied;
    ft_tensor *tensor = NULL, *copy = NULL;
    void *stream = &view;
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    CHECK_OK(ft_tensor_ready_after(tensor, NULL));
    CHECK_OK(ft_tensor_wait(tensor, NULL));
    CHECK_OK(ft_tensor_to_host(&copy, tensor));
    CHECK_OK(ft_tensor_view(&copied, copy));
    const float transposed[6] = {0, 3, 1, 4, 2, 5};
    CHECK(copied.data != values && !memcmp(copied.data, transposed, sizeof transposed));
    ft_tensor_release(copy);
    ft_tensor_release(tensor);

    view.data = values + 4;
    view.strides = backwards;
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    CHECK_OK(ft_tensor_to_host(&copy, tensor));
    CHECK_OK(ft_tensor_view(&copied, copy));
    const float reversed[6] = {4, 5, 2, 3, 0, 1};
    CHECK(!memcmp(copied.data, reversed, sizeof reversed));
    ft_tensor_release(copy);
    ft_tensor_release(tensor);

    CHECK_OK(ft_exchange_stream(&stream, view.device));
    CHECK(stream == NULL);
    view.device = (ft_device){FT_DEVICE_CUDA, 1000};
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_exchange_stream(&stream, view.device));
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_tensor_ready_after(tensor, NULL));
    CHECK_OK(ft_tensor_wait(tensor, NULL)); /* nobody said what for */
    copy = tensor;
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_tensor_to_host(&copy, tensor));
    CHECK(copy == NULL);
    ft_tensor_release(tensor);

    CHECK_INVALID(ft_tensor_ready_after(NULL, NULL));
    CHECK_INVALID(ft_tensor_wait(NULL, NULL));
    CHECK_INVALID(ft_tensor_to_host(&copy, NULL));
    CHECK_INVALID(ft_tensor_to_host(NULL, tensor));
    CHECK_INVALID(ft_exchange_stream(NULL, view.device));
}
