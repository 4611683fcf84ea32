/* Embeddings in the place of token ids, in generation and in passes over whole sequences; prefixes of keys and values.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "harness.h"

void test_soft_prompts(void) {
    ft_model *llama = open_tiny("llama", 1);
    ft_session *session = open_session(llama);
    const int32_t prompt[3] = {5, 6, 7}, positions[2] = {0, 2};
    int64_t layers, heads, head_dim, size;
    CHECK_OK(ft_model_config_int(&layers, llama, "num_layers"));
    CHECK_OK(ft_model_config_int(&heads, llama, "num_kv_heads"));
    CHECK_OK(ft_model_config_int(&head_dim, llama, "head_dim"));
    CHECK_OK(ft_model_config_int(&size, llama, "embedding_size"));
    float *embeddings = calloc((size_t)(2 * size), sizeof *embeddings);
    float *prefix = calloc((size_t)(layers * 2 * heads * 3 * head_dim), sizeof *prefix);
    for (int64_t i = 0; i < 2 * size; ++i) embeddings[i] = 0.01f * (float)(i % 7);
    int32_t plain[4], other[4];
    ft_generate_options options = greedy(4);
    CHECK(generate(plain, 4, session, prompt, 3, &options) == 4);

    CHECK_REFUSED(session, o.num_prompt_embeddings = -1);
    CHECK_REFUSED(session, o.num_prompt_embeddings = INT32_MAX);
    CHECK_REFUSED(session, (o.num_prompt_embeddings = 2, o.prompt_embeddings = embeddings));
    CHECK_REFUSED(session, (o.num_prompt_embeddings = 2, o.prompt_embedding_positions = positions));
    CHECK_REFUSED(session, (o.num_prompt_embeddings = 2, o.prompt_embeddings = embeddings,
                            o.prompt_embedding_positions = (int32_t[]){2, 2}));
    CHECK_REFUSED(session, (o.num_prompt_embeddings = 2, o.prompt_embeddings = embeddings,
                            o.prompt_embedding_positions = (int32_t[]){-1, 2}));
    CHECK_REFUSED(session, (o.num_prompt_embeddings = 2, o.prompt_embeddings = embeddings,
                            o.prompt_embedding_positions = (int32_t[]){0, 3}));
    CHECK_REFUSED(session, o.prefix_length = -1);
    CHECK_REFUSED(session, o.prefix_length = INT64_MAX);
    CHECK_REFUSED(session, o.prefix_length = 3);

    /* Embeddings make any token's id irrelevant; a prefix of zeros takes attention away from the prompt. */
    options.num_prompt_embeddings = 2;
    options.prompt_embedding_positions = positions;
    options.prompt_embeddings = embeddings;
    int32_t soft[4];
    CHECK(generate(soft, 4, session, prompt, 3, &options) == 4);
    CHECK(generate(other, 4, session, (int32_t[]){-1, 6, 1 << 30}, 3, &options) == 4);
    CHECK(!memcmp(soft, other, sizeof soft));
    options = greedy(4);
    options.prefix_length = 3;
    options.prefix_key_values = prefix;
    CHECK(generate(other, 4, session, prompt, 3, &options) == 4);
    options = greedy(4);
    CHECK(generate(other, 4, session, prompt, 3, &options) == 4);
    CHECK(!memcmp(plain, other, sizeof plain)); /* nothing of them is left behind */
    free(embeddings);
    free(prefix);
    ft_session_destroy(session);
    ft_model_close(llama);
}

enum { ROWS = 2, SEQ = 4, WIDTH = 32, VOCAB = 96 };

/* Halves of small integers, which bfloat16 holds too. */
static void make_embeddings(float *values, unsigned seed) {
    for (int i = 0; i < ROWS * SEQ * WIDTH; ++i) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)((int)(seed >> 28) - 8) / 2;
    }
}

static ft_tensor *wrap(const void *data, ft_dtype dtype, int32_t ndim, int64_t a, int64_t b, int64_t c) {
    int64_t shape[3] = {a, b, c};
    const ft_dl_tensor view = {(void *)data, {FT_DEVICE_CPU, 0}, ndim, dtype, shape, NULL, 0};
    ft_tensor *tensor = NULL;
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    return tensor;
}

static const ft_dtype int32 = {FT_DTYPE_INT, 32, 1}, float32 = {FT_DTYPE_FLOAT, 32, 1},
                      bfloat16 = {FT_DTYPE_BFLOAT, 16, 1};

/* Copies a pass's logits, [ROWS * SEQ, VOCAB] whatever the layout. */
static void logits_of(float *out, ft_model *model, const ft_forward_inputs *in) {
    ft_forward_outputs made = FT_FORWARD_OUTPUTS_INIT;
    ft_dl_tensor view;
    memset(out, 0, sizeof(float) * ROWS * SEQ * VOCAB);
    CHECK_OK(ft_forward(&made, model, in, NULL));
    if (made.logits && ft_tensor_view(&view, made.logits) == FT_OK) {
        int64_t size = 1;
        for (int32_t d = 0; d < view.ndim; ++d) size *= view.shape[d];
        CHECK(size == ROWS * SEQ * VOCAB);
        if (size == ROWS * SEQ * VOCAB) memcpy(out, view.data, sizeof(float) * (size_t)size);
    } else {
        CHECK(!"logits");
    }
    ft_tensor_release(made.logits);
    ft_tensor_release(made.last_hidden_state);
    ft_tensor_release(made.encoder_last_hidden_state);
}

static int32_t likeliest(const float *logits) {
    int32_t best = 0;
    for (int32_t v = 1; v < VOCAB; ++v) best = logits[v] > logits[best] ? v : best;
    return best;
}

void test_forward_embeddings(void) {
    static const char *const models[] = {"llama", "t5"};
    static float values[ROWS * SEQ * WIDTH], padded[ROWS * SEQ * VOCAB], other[ROWS * SEQ * VOCAB];
    static uint16_t halves[ROWS * SEQ * WIDTH];
    static const int32_t ids[ROWS * SEQ] = {0, 5, 6, 7, 0, 8, 9, 10}, offsets[3] = {0, SEQ, ROWS * SEQ};
    for (int m = 0; m < 2; ++m) {
        ft_model *model = open_tiny(models[m], 1);
        make_embeddings(values, 3);
        for (int i = 0; i < ROWS * SEQ * WIDTH; ++i) { /* bfloat16 is float32's upper half */
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            halves[i] = (uint16_t)(bits >> 16);
        }
        ft_tensor *grid = wrap(values, float32, 3, ROWS, SEQ, WIDTH),
                  *flat = wrap(values, float32, 2, ROWS * SEQ, WIDTH, 0),
                  *half = wrap(halves, bfloat16, 3, ROWS, SEQ, WIDTH),
                  *narrow = wrap(values, float32, 3, ROWS, SEQ, WIDTH / 2), *tokens = wrap(ids, int32, 2, ROWS, SEQ, 0),
                  *rows = wrap(offsets, int32, 1, 3, 0, 0);
        ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
        if (m == 1) in.decoder_input_ids = tokens;
        in.inputs_embeds = grid;
        logits_of(padded, model, &in);
        in.inputs_embeds = half;
        logits_of(other, model, &in);
        CHECK(!memcmp(padded, other, sizeof padded));
        in.inputs_embeds = flat;
        in.row_offsets = rows;
        logits_of(other, model, &in);
        CHECK(!memcmp(padded, other, sizeof padded));
        in.row_offsets = NULL;

        ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
        CHECK_INVALID(ft_forward(&out, model, &in, NULL)); /* [tokens, width] without offsets */
        in.inputs_embeds = narrow;
        CHECK_INVALID(ft_forward(&out, model, &in, NULL));
        in.inputs_embeds = tokens;
        CHECK_INVALID(ft_forward(&out, model, &in, NULL));
        in.inputs_embeds = grid;
        in.input_ids = tokens;
        CHECK_INVALID(ft_forward(&out, model, &in, NULL)); /* both */
        in.input_ids = NULL;
        in.decoder_input_ids = NULL;
        in.decoder_inputs_embeds = grid;
        if (m == 0)
            CHECK_INVALID(ft_forward(&out, model, &in, NULL));
        else
            logits_of(other, model, &in);

        /* Generation on the same embeddings begins with what the pass finds likeliest. */
        ft_session *session = open_session(model);
        const int32_t positions[SEQ] = {0, 1, 2, 3};
        for (int r = 0; r < ROWS; ++r) {
            int32_t token = -1;
            ft_generate_options options = greedy(1);
            options.num_prompt_embeddings = SEQ;
            options.prompt_embedding_positions = positions;
            options.prompt_embeddings = values + r * SEQ * WIDTH;
            CHECK(generate(&token, 1, session, positions, SEQ, &options) == 1);
            CHECK(token ==
                  likeliest(padded + (r * SEQ + (m == 1 ? 0 : SEQ - 1)) * VOCAB)); /* t5's answer starts with 0 */
        }
        ft_session_destroy(session);
        for (int i = 0; i < 6; ++i) ft_tensor_release(((ft_tensor *[]){grid, flat, half, narrow, tokens, rows})[i]);
        ft_model_close(model);
    }
}
