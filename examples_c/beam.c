/*
 * Continues one prompt by beam search, prints tokens as soon as they are settled, then the best sequences with their
 * scores:
 *
 *   beam MODEL WIDTH MAX_NEW_TOKENS "504 3575 282"        see example.h for token ids
 */
#include "example.h"

/* With beams a token comes when it belongs to every sequence that can still become the best: it is never taken back. */
static int on_settled(ft_request *request, int32_t token, void *user_data) {
    size_t *told = user_data;
    (void)request;
    fprintf(stderr, "%s%d", (*told)++ ? " " : "settled: ", (int)token);
    return FT_CONTINUE;
}

static void print_sequence(const ft_request *request, size_t index) {
    ft_sequence sequence = FT_SEQUENCE_INIT;
    check(ft_request_get_sequence(&sequence, NULL, NULL, 0, index, request), "sequence");
    int32_t *tokens = calloc(sequence.num_tokens + 1, sizeof *tokens);
    if (!tokens) exit(1);
    check(ft_request_get_sequence(NULL, tokens, NULL, sequence.num_tokens, index, request), "sequence");
    printf("%.4f:", sequence.score);
    for (size_t i = 0; i < sequence.num_tokens; ++i) printf(" %d", (int)tokens[i]);
    printf("%s\n", sequence.finish_reason == FT_FINISH_STOP ? " (stopped)" : "");
    free(tokens);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s MODEL WIDTH MAX_NEW_TOKENS \"IDS\"\n", argv[0]);
        return 2;
    }
    ft_model *model = NULL;
    ft_session *session = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);
    check(ft_session_create(&session, model, NULL), "session");

    ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
    options.num_beams = options.num_return_sequences = atoi(argv[2]);
    options.max_new_tokens = atoi(argv[3]);
    options.early_stopping = FT_EARLY_STOPPING_YES;
    options.no_repeat_ngram_size = 3;

    token_list prompt = {0};
    read_tokens(&prompt, argv[4]);
    ft_request *request = NULL;
    size_t told = 0, count = 0;
    check(ft_session_submit(&request, session, prompt.data, prompt.count, &options, on_settled, NULL, &told), "submit");
    free(prompt.data);
    check(ft_request_wait(request), "wait");
    fprintf(stderr, "\n");
    check(ft_request_num_sequences(&count, request), "sequences");
    for (size_t i = 0; i < count; ++i) print_sequence(request, i);

    ft_request_release(request);
    ft_session_destroy(session);
    ft_model_close(model);
    return 0;
}
