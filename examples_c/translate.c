/*
 * Translates (or summarises, or whatever the model was taught) with an encoder-decoder such as T5: the encoder reads
 * each text once, and beams that share what it made of it write the answer.
 *
 *   translate MODEL WIDTH MAX_NEW_TOKENS "13959 1566 12 2968 10 27 333 25 1" ["IDS" ...]      see example.h for token
 * ids
 *
 * T5's texts begin with the task ("translate English to German: ") and end with the end token, 1.
 */
#include "example.h"

enum { max_texts = 64 };

static void print_answer(const ft_request *request) {
    size_t count = 0;
    check(ft_request_tokens(&count, NULL, NULL, 0, request), "tokens");
    int32_t *tokens = calloc(count + 1, sizeof *tokens);
    if (!tokens) exit(1);
    check(ft_request_tokens(&count, tokens, NULL, count, request), "tokens");
    for (size_t i = 0; i < count; ++i) printf("%s%d", i ? " " : "", (int)tokens[i]);
    printf("\n");
    free(tokens);
}

int main(int argc, char **argv) {
    if (argc < 5 || argc - 4 > max_texts) {
        fprintf(stderr, "usage: %s MODEL WIDTH MAX_NEW_TOKENS \"IDS\" [\"IDS\" ...] (at most %d)\n", argv[0],
                max_texts);
        return 2;
    }
    ft_model *model = NULL;
    ft_session *session = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);
    int64_t two_sided = 0;
    check(ft_model_config_int(&two_sided, model, "is_encoder_decoder"), "is_encoder_decoder");
    if (!two_sided) {
        fprintf(stderr, "%s is no encoder-decoder; the example 'generate' continues prompts\n", argv[1]);
        ft_model_close(model);
        return 1;
    }
    check(ft_session_create(&session, model, NULL), "session");

    /* The decoder starts with the checkpoint's start token; options.decoder_input_ids would go on from there. */
    ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
    options.num_beams = atoi(argv[2]);
    options.max_new_tokens = atoi(argv[3]);
    options.early_stopping = FT_EARLY_STOPPING_YES;

    ft_request *requests[max_texts];
    const int count = argc - 4;
    for (int i = 0; i < count; ++i) {
        token_list text = {0};
        read_tokens(&text, argv[4 + i]);
        check(ft_session_submit(&requests[i], session, text.data, text.count, &options, NULL, NULL, NULL), "submit");
        free(text.data);
    }
    for (int i = 0; i < count; ++i) {
        check(ft_request_wait(requests[i]), "wait");
        print_answer(requests[i]);
        ft_request_release(requests[i]);
    }
    ft_session_destroy(session);
    ft_model_close(model);
    return 0;
}
