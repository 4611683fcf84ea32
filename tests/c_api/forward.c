/* One pass over sequences: misuse, every integer width, padding on either side, ragged rows. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "harness.h"

static const ft_dtype int32 = {FT_DTYPE_INT, 32, 1}, int64 = {FT_DTYPE_INT, 64, 1}, int16 = {FT_DTYPE_INT, 16, 1},
                      uint8 = {FT_DTYPE_UINT, 8, 1}, float32 = {FT_DTYPE_FLOAT, 32, 1};

/* Wraps C-contiguous data; `columns` 0 makes it one-dimensional. */
static ft_tensor *wrap(const void *data, ft_dtype dtype, int64_t rows, int64_t columns) {
    int64_t shape[2] = {rows, columns};
    ft_dl_tensor view = {(void *)data, {FT_DEVICE_CPU, 0}, columns ? 2 : 1, dtype, shape, NULL, 0};
    ft_tensor *tensor = NULL;
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    return tensor;
}

/* The tensor's elements; zeros for one that a failed call left out, so that the test goes on to its checks. */
static const float *floats(const ft_tensor *tensor, int32_t ndim, const int64_t *shape) {
    static const float none[2 * 5 * 96];
    ft_dl_tensor view;
    if (!tensor || ft_tensor_view(&view, tensor) != FT_OK || view.ndim != ndim) {
        CHECK(!"a tensor of this rank");
        return none;
    }
    CHECK(view.dtype.code == FT_DTYPE_FLOAT && view.dtype.bits == 32);
    for (int32_t d = 0; d < ndim; ++d) CHECK(view.shape[d] == shape[d]);
    return (const float *)((const char *)view.data + view.byte_offset);
}

static void release(ft_forward_outputs *out) {
    ft_tensor_release(out->last_hidden_state);
    ft_tensor_release(out->pooler_output);
    ft_tensor_release(out->logits);
    ft_tensor_release(out->embedding);
    *out = (ft_forward_outputs)FT_FORWARD_OUTPUTS_INIT;
}

static const int32_t ids[2][4] = {{5, 6, 7, 8}, {9, 10, 11, 12}};

void test_forward_misuse(void) {
    ft_model *bert = open_tiny("bert", 1), *llama = open_tiny("llama", 1);
    ft_tensor *good = wrap(ids, int32, 2, 4);
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_options options = FT_FORWARD_OPTIONS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    in.input_ids = good;

    CHECK_INVALID(ft_forward(NULL, bert, &in, NULL));
    CHECK_INVALID(ft_forward(&out, NULL, &in, NULL));
    CHECK_INVALID(ft_forward(&out, bert, NULL, NULL));
    in.input_ids = NULL;
    CHECK_INVALID(ft_forward(&out, bert, &in, NULL));
    in.input_ids = good;

    options.outputs = 1u << 31;
    CHECK_INVALID(ft_forward(&out, bert, &in, &options));
    options.outputs = 0;
    options.output_device = "toaster";
    CHECK_INVALID(ft_forward(&out, bert, &in, &options));
    options.output_device = "auto"; /* a device is meant */
    CHECK_INVALID(ft_forward(&out, bert, &in, &options));
    options.output_device = "cpu";
    CHECK_OK(ft_forward(&out, bert, &in, &options));
    release(&out);
    options.output_device = NULL;
    options.pooling = (ft_pooling)99;
    CHECK_INVALID(ft_forward(&out, bert, &in, &options));
    options.pooling = FT_POOLING_AUTO;
    options.outputs = FT_OUTPUT_POOLER;
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_forward(&out, llama, &in, &options));
    options.outputs = FT_OUTPUT_LOGITS;
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_forward(&out, bert, &in, &options));
    CHECK(!out.last_hidden_state && !out.pooler_output && !out.logits && !out.embedding);
    ft_tensor_release(good);
    ft_model_close(bert);
    ft_model_close(llama);
}

/* Runs a pass that must be refused, with each of the four inputs given. */
static void refused(ft_model *model, ft_tensor *input_ids, ft_tensor *mask, ft_tensor *types, ft_tensor *offsets) {
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    in.input_ids = input_ids;
    in.attention_mask = mask;
    in.token_type_ids = types;
    in.row_offsets = offsets;
    CHECK_INVALID(ft_forward(&out, model, &in, NULL));
    CHECK(!out.last_hidden_state && !out.pooler_output && !out.logits && !out.embedding);
}

void test_forward_shapes(void) {
    static const float real[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int32_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, zeros[8] = {0};
    static const int32_t beyond[8] = {5, 6, 7, 8, 9, 96, 11, 12}, negative[8] = {5, 6, 7, 8, 9, -1, 11, 12};
    static const int32_t types_beyond[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    static const int32_t falling[3] = {0, 5, 4}, late[3] = {1, 4, 8}, short_of[3] = {0, 4, 7}, far[3] = {0, 4, 9};
    static const int32_t offsets[3] = {0, 4, 8};
    static int32_t long_row[300];
    ft_model *bert = open_tiny("bert", 1);
    for (int i = 0; i < 300; ++i) long_row[i] = 5;

    ft_tensor *padded = wrap(ids, int32, 2, 4), *ragged = wrap(ids, int32, 8, 0), *mask = wrap(ones, int32, 2, 4);
    struct {
        ft_tensor *input_ids, *mask, *types, *offsets;
    } wrong[] = {
        {wrap(real, float32, 2, 4), NULL, NULL, NULL},         /* not integers */
        {padded, wrap(real, float32, 2, 4), NULL, NULL},       /* a mask of floats */
        {padded, wrap(ones, int32, 2, 3), NULL, NULL},         /* a mask of another shape */
        {padded, wrap(ones, int32, 4, 2), NULL, NULL},         /* transposed */
        {padded, wrap(zeros, int32, 2, 4), NULL, NULL},        /* rows without a token */
        {padded, mask, wrap(zeros, int32, 2, 3), NULL},        /* token types of another shape */
        {padded, mask, wrap(types_beyond, int32, 2, 4), NULL}, /* a token type the model lacks */
        {wrap(beyond, int32, 2, 4), NULL, NULL, NULL},         /* a token the vocabulary lacks */
        {wrap(negative, int32, 2, 4), NULL, NULL, NULL},       /* below it */
        {wrap(long_row, int32, 1, 300), NULL, NULL, NULL},     /* more positions than the model has */
        {ragged, NULL, NULL, NULL},                            /* ragged without its offsets */
        {padded, NULL, NULL, wrap(offsets, int32, 3, 0)},      /* padded with offsets */
        {ragged, mask, NULL, wrap(offsets, int32, 3, 0)},      /* ragged with a mask */
        {ragged, NULL, NULL, wrap(falling, int32, 3, 0)},      /* offsets that fall */
        {ragged, NULL, NULL, wrap(late, int32, 3, 0)},         /* that start late */
        {ragged, NULL, NULL, wrap(short_of, int32, 3, 0)},     /* that end early */
        {ragged, NULL, NULL, wrap(far, int32, 3, 0)},          /* that end late */
        {ragged, NULL, NULL, wrap(real, float32, 3, 0)},       /* that are no integers */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        int before = atomic_load(&failed_checks);
        refused(bert, wrong[i].input_ids, wrong[i].mask, wrong[i].types, wrong[i].offsets);
        if (atomic_load(&failed_checks) != before) printf("  in case %zu of the wrong shapes\n", i);
        ft_tensor *given[4] = {wrong[i].input_ids, wrong[i].mask, wrong[i].types, wrong[i].offsets};
        for (int t = 0; t < 4; ++t)
            if (given[t] != padded && given[t] != ragged && given[t] != mask) ft_tensor_release(given[t]);
    }
    /* After all of that the model still works. */
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    in.input_ids = padded;
    in.attention_mask = mask;
    CHECK_OK(ft_forward(&out, bert, &in, NULL));
    release(&out);
    ft_tensor_release(padded);
    ft_tensor_release(ragged);
    ft_tensor_release(mask);
    ft_model_close(bert);
}

void test_forward_bert(void) {
    ft_model *bert = open_tiny("bert", 2);
    ft_tensor *input = wrap(ids, int32, 2, 4);
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_options options = FT_FORWARD_OPTIONS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    in.input_ids = input;
    options.outputs = FT_OUTPUT_LAST_HIDDEN_STATE | FT_OUTPUT_POOLER | FT_OUTPUT_EMBEDDING;
    for (int p = FT_POOLING_AUTO; p <= FT_POOLING_MAX; ++p) {
        options.pooling = (ft_pooling)p;
        CHECK_OK(ft_forward(&out, bert, &in, &options));
        const float *hidden = floats(out.last_hidden_state, 3, (int64_t[]){2, 4, 32});
        const float *pooled = floats(out.pooler_output, 2, (int64_t[]){2, 32});
        const float *embedding = floats(out.embedding, 2, (int64_t[]){2, 32});
        CHECK(out.logits == NULL);
        double length = 0, largest = 0;
        for (int i = 0; i < 32; ++i) {
            length += (double)embedding[i] * embedding[i];
            largest = fmax(largest, fabs((double)pooled[i]));
        }
        CHECK(fabs(length - 1) < 1e-5);
        CHECK(largest > 0 && largest <= 1); /* a tanh */
        if (p == FT_POOLING_CLS)
            CHECK(fabs((double)embedding[0] / embedding[1] - (double)hidden[0] / hidden[1]) < 1e-3);
        release(&out);
    }
    /* Without options: what the model has. */
    CHECK_OK(ft_forward(&out, bert, &in, NULL));
    CHECK(out.last_hidden_state && out.pooler_output && !out.logits && !out.embedding);
    release(&out);
    ft_tensor_release(input);
    ft_model_close(bert);
}

/* The hidden state of one row alone, to the bit what it is in any batch. */
void test_forward_padding(void) {
    static const int64_t left[2][5] = {{0, 0, 5, 6, 7}, {9, 10, 11, 12, 13}};
    static const int16_t right[2][5] = {{5, 6, 7, 0, 0}, {9, 10, 11, 12, 13}};
    static const uint8_t left_mask[2][5] = {{0, 0, 1, 1, 1}, {1, 1, 1, 1, 1}};
    static const int64_t right_mask[2][5] = {{1, 1, 1, 0, 0}, {1, 1, 1, 1, 1}};
    static const int32_t alone[3] = {5, 6, 7}, together[8] = {5, 6, 7, 9, 10, 11, 12, 13};
    static const int64_t offsets[3] = {0, 3, 8};
    static const char *const models[] = {"bert", "llama"};

    for (int m = 0; m < 2; ++m) {
        ft_model *model = open_tiny(models[m], 2);
        ft_tensor *tensors[7] = {wrap(alone, int32, 1, 3),  wrap(left, int64, 2, 5),       wrap(left_mask, uint8, 2, 5),
                                 wrap(right, int16, 2, 5),  wrap(right_mask, int64, 2, 5), wrap(together, int32, 8, 0),
                                 wrap(offsets, int64, 3, 0)};
        ft_forward_options options = FT_FORWARD_OPTIONS_INIT;
        options.outputs = FT_OUTPUT_LAST_HIDDEN_STATE;
        ft_forward_inputs in[4] = {FT_FORWARD_INPUTS_INIT, FT_FORWARD_INPUTS_INIT, FT_FORWARD_INPUTS_INIT,
                                   FT_FORWARD_INPUTS_INIT};
        ft_forward_outputs out[4] = {FT_FORWARD_OUTPUTS_INIT, FT_FORWARD_OUTPUTS_INIT, FT_FORWARD_OUTPUTS_INIT,
                                     FT_FORWARD_OUTPUTS_INIT};
        in[0].input_ids = tensors[0];
        in[1].input_ids = tensors[1];
        in[1].attention_mask = tensors[2];
        in[2].input_ids = tensors[3];
        in[2].attention_mask = tensors[4];
        in[3].input_ids = tensors[5];
        in[3].row_offsets = tensors[6];
        for (int i = 0; i < 4; ++i) CHECK_OK(ft_forward(&out[i], model, &in[i], &options));
        const size_t row = 3 * 32 * sizeof(float);
        const float *single = floats(out[0].last_hidden_state, 3, (int64_t[]){1, 3, 32});
        const float *on_left = floats(out[1].last_hidden_state, 3, (int64_t[]){2, 5, 32});
        const float *on_right = floats(out[2].last_hidden_state, 3, (int64_t[]){2, 5, 32});
        const float *ragged = floats(out[3].last_hidden_state, 2, (int64_t[]){8, 32});
        CHECK(!memcmp(single, on_left + 2 * 32, row));
        CHECK(!memcmp(single, on_right, row));
        CHECK(!memcmp(single, ragged, row));
        for (int i = 0; i < 2 * 32; ++i) CHECK(on_left[i] == 0 && on_right[3 * 32 + i] == 0);
        for (int i = 0; i < 4; ++i) release(&out[i]);
        for (int i = 0; i < 7; ++i) ft_tensor_release(tensors[i]);
        ft_model_close(model);
    }
}

void test_forward_llama(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_tensor *input = wrap(ids, int32, 2, 4);
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    in.input_ids = input;
    CHECK_OK(ft_forward(&out, llama, &in, NULL));
    CHECK(out.last_hidden_state && out.logits && !out.pooler_output && !out.embedding);
    const float *logits = floats(out.logits, 3, (int64_t[]){2, 4, 96});

    /* The first token that greedy generation chooses is the largest of these logits. */
    ft_session *session = open_session(llama);
    ft_generate_options options = greedy(1);
    for (int r = 0; r < 2; ++r) {
        const float *last = logits + (r * 4 + 3) * 96;
        int32_t best = 0, token = -1;
        for (int32_t v = 1; v < 96; ++v)
            if (last[v] > last[best]) best = v;
        CHECK(generate(&token, 1, session, ids[r], 4, &options) == 1);
        CHECK(token == best);
    }
    ft_session_destroy(session);
    release(&out);
    ft_tensor_release(input);
    ft_model_close(llama);
}
