/*
 * Options structs only ever grow at their end, and a program compiled against an older header passes a smaller
 * struct_size. The table holds each struct's size in its first version, for ever: never change a line of it, only add.
 */
#include <stddef.h>
#include <stdlib.h>

#include "harness.h"

/* The first version of a struct ended with this member. */
#define FIRST(type, last_member, size) \
    {#type, offsetof(type, last_member) + sizeof(((type *)0)->last_member), sizeof(type), size}

static const struct {
    const char *name;
    size_t end_of_last; /* today */
    size_t size_now;
    size_t first_size; /* in the first version, on 64-bit platforms */
} structs[] = {
    FIRST(ft_model_options, user_data, 56),    FIRST(ft_session_options, kv_cache_bytes, 24),
    FIRST(ft_generate_options, logprobs, 104), FIRST(ft_session_stats, allocations, 72),
    FIRST(ft_forward_inputs, row_offsets, 40), FIRST(ft_forward_options, normalize, 24),
    FIRST(ft_forward_outputs, embedding, 40),  FIRST(ft_tensor_info, size_bytes, 56),
    FIRST(ft_device_info, num_threads, 56),    FIRST(ft_sequence, finish_reason, 24),
    FIRST(ft_convert_options, user_data, 72),
};

static size_t first_size(const char *name) {
    for (size_t i = 0; i < sizeof structs / sizeof *structs; ++i)
        if (!strcmp(structs[i].name, name)) return sizeof(void *) == 8 ? structs[i].first_size : structs[i].size_now;
    abort();
}

void test_struct_first_sizes(void) {
    for (size_t i = 0; i < sizeof structs / sizeof *structs && sizeof(void *) == 8; ++i) {
        const size_t padded = (structs[i].end_of_last + 7) / 8 * 8;
        if (padded != structs[i].first_size || structs[i].size_now < structs[i].first_size) {
            CHECK(!"a struct changed before its first version's end");
            printf("  %s: %zu bytes then, %zu now\n", structs[i].name, structs[i].first_size, padded);
        }
    }
}

/* A struct with room behind it, as a program of another version would pass it. */
#define WITH_ROOM(type)                \
    union {                            \
        type value;                    \
        char bytes[sizeof(type) + 64]; \
    }

typedef ft_status (*call)(void *context, void *options);

/* `options` is an initialised options struct of `size` bytes with 64 zero bytes behind it. */
static void try_sizes(const char *name, void *options, size_t size, call use, void *context) {
    size_t *struct_size = options;
    static const size_t absurd[] = {
        0, 1, sizeof(size_t) - 1, (size_t)1 << 20, (size_t)-1, (size_t)1 << (sizeof(size_t) * 8 - 1)};
    const int before = atomic_load(&failed_checks);
    *struct_size = first_size(name);
    CHECK_OK(use(context, options));
    *struct_size = size + 64; /* a newer program that leaves the new fields zero */
    CHECK_OK(use(context, options));
    ((char *)options)[size + 63] = 1; /* one that sets a field we cannot honour */
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, use(context, options));
    ((char *)options)[size + 63] = 0;
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; ++i) {
        *struct_size = absurd[i];
        CHECK_INVALID(use(context, options));
    }
    if (atomic_load(&failed_checks) != before) printf("  with %s\n", name);
}

static ft_status open_model(void *context, void *options) {
    (void)context;
    ft_model *model = NULL;
    ft_status status = ft_model_open(&model, tiny("llama"), options);
    ft_model_close(model);
    return status;
}

static ft_status create_session(void *context, void *options) {
    ft_session *session = NULL;
    ft_status status = ft_session_create(&session, context, options);
    ft_session_destroy(session);
    return status;
}

static ft_status submit(void *context, void *options) {
    const int32_t prompt[2] = {5, 6};
    ft_request *request = NULL;
    ft_status status = ft_session_submit(&request, context, prompt, 2, options, NULL, NULL, NULL);
    ft_request_release(request);
    return status;
}

typedef struct {
    ft_model *model;
    ft_forward_inputs *inputs;
} pass;

static ft_status forward_with(ft_model *model, ft_forward_inputs *inputs, ft_forward_options *options) {
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    ft_status status = ft_forward(&out, model, inputs, options);
    ft_tensor_release(out.last_hidden_state);
    ft_tensor_release(out.logits);
    return status;
}

static ft_status forward_inputs(void *context, void *inputs) {
    return forward_with(((pass *)context)->model, inputs, NULL);
}
static ft_status forward_options(void *context, void *options) {
    return forward_with(((pass *)context)->model, ((pass *)context)->inputs, options);
}

static ft_status convert(void *destination, void *options) { return ft_convert(tiny("llama"), destination, options); }

void test_struct_sizes_in(void) {
    WITH_ROOM(ft_model_options) model_options = {FT_MODEL_OPTIONS_INIT};
    try_sizes("ft_model_options", &model_options, sizeof(ft_model_options), open_model, NULL);

    ft_model *model = open_tiny("llama", 1);
    WITH_ROOM(ft_session_options) session_options = {FT_SESSION_OPTIONS_INIT};
    session_options.value.kv_cache_bytes = 1 << 20;
    try_sizes("ft_session_options", &session_options, sizeof(ft_session_options), create_session, model);

    ft_session *session = open_session(model);
    WITH_ROOM(ft_generate_options) generate_options = {FT_GENERATE_OPTIONS_INIT};
    try_sizes("ft_generate_options", &generate_options, sizeof(ft_generate_options), submit, session);
    ft_session_destroy(session);

    int32_t ids[3] = {5, 6, 7};
    int64_t shape[2] = {1, 3};
    ft_dl_tensor view = {ids, {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_INT, 32, 1}, shape, NULL, 0};
    ft_tensor *input = NULL;
    CHECK_OK(ft_tensor_wrap(&input, &view, NULL, NULL));
    WITH_ROOM(ft_forward_inputs) inputs = {FT_FORWARD_INPUTS_INIT};
    inputs.value.input_ids = input;
    pass context = {model, &inputs.value};
    WITH_ROOM(ft_forward_options) options = {FT_FORWARD_OPTIONS_INIT};
    try_sizes("ft_forward_options", &options, sizeof(ft_forward_options), forward_options, &context);
    try_sizes("ft_forward_inputs", &inputs, sizeof(ft_forward_inputs), forward_inputs, &context);
    ft_tensor_release(input);
    ft_model_close(model);

    workplace w = make_workplace();
    WITH_ROOM(ft_convert_options) convert_options = {FT_CONVERT_OPTIONS_INIT};
    convert_options.value.overwrite = 1;
    try_sizes("ft_convert_options", &convert_options, sizeof(ft_convert_options), convert, w.out);
    remove_workplace(&w);
}

/* Structs that the library fills: never a byte behind the struct_size that the caller gave. */
static void try_filling(const char *name, void *out, size_t size, call use, void *context) {
    size_t *struct_size = out;
    char *bytes = out;
    const int before = atomic_load(&failed_checks);
    static const size_t absurd[] = {0, 1, (size_t)1 << 20, (size_t)-1};
    for (size_t i = 0; i < sizeof absurd / sizeof *absurd; ++i) {
        *struct_size = absurd[i];
        CHECK_INVALID(use(context, out));
    }
    const size_t sizes[] = {sizeof(size_t), sizeof(size_t) + 8, first_size(name), size};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        memset(bytes, 0x5a, size + 64);
        *struct_size = sizes[i];
        CHECK_OK(use(context, out));
        CHECK(*struct_size == sizes[i]);
        for (size_t b = sizes[i]; b < size + 64; ++b) CHECK(bytes[b] == 0x5a);
    }
    memset(bytes, 0, size + 64); /* a newer program's struct is filled as far as we know it */
    *struct_size = size + 64;
    CHECK_OK(use(context, out));
    for (size_t b = size; b < size + 64; ++b) CHECK(bytes[b] == 0);
    if (atomic_load(&failed_checks) != before) printf("  with %s\n", name);
}

static ft_status fill_device(void *context, void *out) { return (void)context, ft_device_get(out, 0); }
static ft_status fill_tensor(void *context, void *out) { return ft_checkpoint_tensor(out, context, 0); }
static ft_status fill_stats(void *context, void *out) { return ft_session_get_stats(out, context); }

void test_struct_sizes_out(void) {
    WITH_ROOM(ft_device_info) device;
    try_filling("ft_device_info", &device, sizeof(ft_device_info), fill_device, NULL);

    ft_checkpoint *checkpoint = NULL;
    CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("llama")));
    WITH_ROOM(ft_tensor_info) tensor;
    try_filling("ft_tensor_info", &tensor, sizeof(ft_tensor_info), fill_tensor, checkpoint);
    ft_checkpoint_close(checkpoint);

    ft_model *model = open_tiny("llama", 1);
    ft_session *session = open_session(model);
    WITH_ROOM(ft_session_stats) stats;
    try_filling("ft_session_stats", &stats, sizeof(ft_session_stats), fill_stats, session);
    ft_session_destroy(session);
    ft_model_close(model);
}
