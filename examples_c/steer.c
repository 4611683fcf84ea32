/*
 * Steers generation through a callback that rewrites logits in place: of the given tokens each comes exactly once, in
 * the order that the model finds likeliest:
 *
 *   steer MODEL "PROMPT IDS" "ALLOWED IDS"        see example.h for token ids
 */
#include <math.h>

#include "example.h"

/* Leaves what is allowed and has not come yet. `logits` is a DLPack view of the library's own memory. */
static int allow_each_once(ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                           const ft_dl_tensor *logits, void *user_data) {
    const token_list *allowed = user_data;
    float *row = (float *)((char *)logits->data + logits->byte_offset);
    (void)request;
    if (logits->device.device_type != FT_DEVICE_CPU) return -1; /* cancels: this program writes from the CPU */
    for (int64_t token = 0; token < logits->shape[0]; ++token) {
        int stays = 0;
        for (size_t i = 0; i < allowed->count; ++i) stays |= allowed->data[i] == token;
        for (size_t i = prompt_length; i < num_tokens; ++i) stays &= tokens[i] != token;
        if (!stays) row[token] = -INFINITY;
    }
    return FT_CONTINUE;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL \"PROMPT IDS\" \"ALLOWED IDS\"\n", argv[0]);
        return 2;
    }
    ft_model *model = NULL;
    ft_session *session = NULL;
    ft_request *request = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);
    check(ft_session_create(&session, model, NULL), "session");

    token_list prompt = {0}, allowed = {0};
    read_tokens(&prompt, argv[2]);
    read_tokens(&allowed, argv[3]);
    ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = (int32_t)allowed.count;
    options.num_stop_token_ids = 0;
    check(ft_session_submit(&request, session, prompt.data, prompt.count, &options, NULL, allow_each_once, &allowed),
          "submit");
    check(ft_request_wait(request), "wait");

    int32_t *tokens = calloc(allowed.count, sizeof *tokens);
    size_t count = 0;
    if (!tokens) return 1;
    check(ft_request_tokens(&count, tokens, NULL, allowed.count, request), "tokens");
    for (size_t i = 0; i < count; ++i) printf("%s%d", i ? " " : "", (int)tokens[i]);
    printf("\n");

    free(tokens);
    free(prompt.data);
    free(allowed.data);
    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(model);
    return 0;
}
