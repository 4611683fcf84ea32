/* Encoder-decoders: what the decoder starts with, forced tokens, and the pass over both sides. */
#include <stdint.h>

#include "harness.h"

static const int32_t source[6] = {5, 6, 7, 8, 9, 1};

static ft_tensor *wrap_row(int32_t *ids, int64_t length) {
    int64_t shape[2] = {1, length};
    ft_dl_tensor view = {ids, {FT_DEVICE_CPU, 0}, 2, {FT_DTYPE_INT, 32, 1}, shape, NULL, 0};
    ft_tensor *tensor = NULL;
    CHECK_OK(ft_tensor_wrap(&tensor, &view, NULL, NULL));
    return tensor;
}

static int64_t count_of(const ft_tensor *tensor) {
    ft_dl_tensor view;
    CHECK_OK(ft_tensor_view(&view, tensor));
    int64_t count = 1;
    for (int32_t i = 0; i < view.ndim; ++i) count *= view.shape[i];
    return count;
}

typedef struct {
    size_t prompt_lengths;
    int32_t first;
} seen;

static int watch(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length, void *user_data) {
    seen *s = user_data;
    (void)request, (void)num_tokens;
    s->prompt_lengths += prompt_length;
    s->first = tokens[0];
    return FT_CONTINUE;
}

void test_translation(void) {
    ft_model *model = open_tiny("t5", 2);
    ft_session *session = open_session(model);
    ft_generate_options options = greedy(8);
    int32_t tokens[8], again[8];
    CHECK(generate(tokens, 8, session, source, 6, &options) == 8);

    /* What was said, given as the start, is gone on from. */
    options.decoder_input_ids = tokens;
    options.num_decoder_input_ids = 3;
    options.max_new_tokens = 5;
    CHECK(generate(again, 8, session, source, 6, &options) == 5);
    CHECK(!memcmp(again, tokens + 3, 5 * sizeof *tokens));

    options.num_decoder_input_ids = 0;
    options.forced_bos_token_id = 42;
    options.forced_eos_token_id = 1;
    CHECK(generate(again, 8, session, source, 6, &options) == 5);
    CHECK(again[0] == 42 && again[4] == 1);
    options.num_beams = 3;
    CHECK(generate(again, 8, session, source, 6, &options) == 5);
    CHECK(again[0] == 42 && again[4] == 1);

    /* Callbacks see the decoder's tokens: the start token, 0, is the prompt. */
    options = greedy(2);
    options.should_stop = watch;
    seen s = {0, -1};
    ft_request *request = NULL;
    CHECK_OK(ft_session_submit(&request, session, source, 6, &options, NULL, NULL, &s));
    CHECK_OK(ft_request_wait(request));
    CHECK(s.prompt_lengths == 2 && s.first == 0);
    ft_request_release(request);

    options = greedy(2);
    options.num_decoder_input_ids = -1;
    CHECK_INVALID(ft_session_submit(&request, session, source, 6, &options, NULL, NULL, NULL));
    options.num_decoder_input_ids = 1;
    CHECK_INVALID(ft_session_submit(&request, session, source, 6, &options, NULL, NULL, NULL));
    options = greedy(2);
    options.forced_eos_token_id = -3;
    CHECK_INVALID(ft_session_submit(&request, session, source, 6, &options, NULL, NULL, NULL));
    options.forced_eos_token_id = 5000;
    CHECK_INVALID(ft_session_submit(&request, session, source, 6, &options, NULL, NULL, NULL));

    ft_session_stats stats = FT_SESSION_STATS_INIT;
    CHECK_OK(ft_session_get_stats(&stats, session));
    CHECK(stats.pages_in_use == 0);
    ft_session_destroy(session);
    ft_model_close(model);
}

void test_forward_both_sides(void) {
    ft_model *model = open_tiny("t5", 1), *llama = open_tiny("llama", 1);
    int32_t ids[6], start[3] = {0, 20, 30};
    memcpy(ids, source, sizeof ids);
    ft_forward_inputs in = FT_FORWARD_INPUTS_INIT;
    ft_forward_outputs out = FT_FORWARD_OUTPUTS_INIT;
    ft_tensor *encoder_ids = wrap_row(ids, 6), *decoder_ids = wrap_row(start, 3);
    in.input_ids = encoder_ids;
    CHECK_INVALID(ft_forward(&out, model, &in, NULL)); /* the decoder's ids are missing */
    in.decoder_input_ids = decoder_ids;
    CHECK_INVALID(ft_forward(&out, llama, &in, NULL));
    CHECK_OK(ft_forward(&out, model, &in, NULL));
    CHECK(count_of(out.encoder_last_hidden_state) == 6 * 32);
    CHECK(count_of(out.last_hidden_state) == 3 * 32);
    CHECK(count_of(out.logits) == 3 * 96);
    for (ft_tensor **t = (ft_tensor *[]){out.encoder_last_hidden_state, out.last_hidden_state, out.logits, NULL}; *t;
         ++t)
        ft_tensor_release(*t);

    /* The encoder alone needs no ids for the decoder. */
    in.decoder_input_ids = NULL;
    ft_forward_options options = FT_FORWARD_OPTIONS_INIT;
    options.outputs = FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE | FT_OUTPUT_EMBEDDING;
    CHECK_OK(ft_forward(&out, model, &in, &options));
    CHECK(out.encoder_last_hidden_state && out.embedding && !out.logits && !out.last_hidden_state);
    ft_tensor_release(out.encoder_last_hidden_state);
    ft_tensor_release(out.embedding);
    CHECK_STATUS(FT_ERROR_UNSUPPORTED, ft_forward(&out, llama, &in, &options));

    ft_tensor_release(encoder_ids);
    ft_tensor_release(decoder_ids);
    ft_model_close(model);
    ft_model_close(llama);
}
