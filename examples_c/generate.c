/*
 * Continues prompts, several at once in one running batch, and prints the new token ids:
 *
 *   generate MODEL MAX_NEW_TOKENS "504 3575 282" ["IDS" ...]        one argument of token ids a prompt; see example.h
 */
#include "example.h"

enum { max_prompts = 64 };

int main(int argc, char **argv) {
    if (argc < 4 || argc - 3 > max_prompts) {
        fprintf(stderr, "usage: %s MODEL MAX_NEW_TOKENS \"IDS\" [\"IDS\" ...] (at most %d)\n", argv[0], max_prompts);
        return 2;
    }
    ft_model *model = NULL;
    ft_session *session = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);
    check(ft_session_create(&session, model, NULL), "session");

    ft_generate_options options = FT_GENERATE_OPTIONS_INIT; /* greedy, up to the checkpoint's own stop tokens */
    options.max_new_tokens = atoi(argv[2]);
    options.logprobs = 1;

    /* Requests that are submitted before the first wait run side by side from its first step on. */
    ft_request *requests[max_prompts];
    const int count = argc - 3;
    for (int i = 0; i < count; ++i) {
        token_list prompt = {0};
        read_tokens(&prompt, argv[3 + i]);
        check(ft_session_submit(&requests[i], session, prompt.data, prompt.count, &options, NULL, NULL, NULL),
              "submit");
        free(prompt.data); /* the library keeps its own copy */
    }
    for (int i = 0; i < count; ++i) {
        size_t length = 0;
        ft_finish_reason reason;
        check(ft_request_wait(requests[i]), "wait"); /* waiting drives the steps */
        check(ft_request_poll(&reason, requests[i]), "poll");
        check(ft_request_tokens(&length, NULL, NULL, 0, requests[i]), "tokens");
        int32_t *tokens = calloc(length + 1, sizeof *tokens);
        float *logprobs = calloc(length + 1, sizeof *logprobs);
        if (!tokens || !logprobs) return 1;
        check(ft_request_tokens(NULL, tokens, logprobs, length, requests[i]), "tokens");
        double sum = 0;
        for (size_t t = 0; t < length; ++t) {
            printf("%s%d", t ? " " : "", (int)tokens[t]);
            sum += logprobs[t];
        }
        printf("\n");
        fprintf(stderr, "prompt %d: %zu tokens, %s, log-probability %.3f\n", i, length,
                reason == FT_FINISH_STOP ? "stopped" : "length", sum);
        free(tokens);
        free(logprobs);
        ft_request_release(requests[i]);
    }
    ft_session_destroy(session);
    ft_model_close(model);
    return 0;
}
