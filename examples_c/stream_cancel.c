/*
 * Streams tokens as they are chosen, and cancels one request while another goes on:
 *
 *   stream_cancel MODEL "IDS" [CANCEL_AFTER]
 *
 * The same prompt is submitted twice. A callback prints each token of the first; after CANCEL_AFTER tokens (default 5)
 * it asks for the second to be cancelled, from inside the running batch.
 */
#include "example.h"

typedef struct {
    ft_request *other;
    int seen, cancel_after;
} stream;

/* Runs on the thread that drives the step. A return other than FT_CONTINUE or FT_STOP would cancel this request. */
static int on_token(ft_request *request, int32_t token, void *user_data) {
    stream *s = user_data;
    (void)request;
    printf("%s%d", s->seen ? " " : "", (int)token);
    fflush(stdout);
    if (++s->seen == s->cancel_after) check(ft_request_cancel(s->other), "cancel");
    return FT_CONTINUE;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL \"IDS\" [CANCEL_AFTER]\n", argv[0]);
        return 2;
    }
    token_list prompt = {0};
    read_tokens(&prompt, argv[2]);
    ft_model *model = NULL;
    ft_session *session = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);
    check(ft_session_create(&session, model, NULL), "session");

    ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = 20;
    options.num_stop_token_ids = 0; /* none: run to the full length */
    stream state = {NULL, 0, argc > 3 ? atoi(argv[3]) : 5};
    ft_request *streamed = NULL;
    check(ft_session_submit(&state.other, session, prompt.data, prompt.count, &options, NULL, NULL, NULL), "submit");
    check(ft_session_submit(&streamed, session, prompt.data, prompt.count, &options, on_token, NULL, &state), "submit");

    check(ft_request_wait(streamed), "wait");
    printf("\n");
    const ft_status status = ft_request_wait(state.other);
    size_t length = 0;
    check(ft_request_tokens(&length, NULL, NULL, 0, state.other), "tokens");
    fprintf(stderr, "the other request: %s after %zu tokens (%s)\n", ft_status_name(status), length,
            ft_request_error(state.other));

    ft_request_release(streamed);
    ft_request_release(state.other);
    ft_session_destroy(session);
    ft_model_close(model);
    free(prompt.data);
    return status == FT_ERROR_CANCELLED && state.seen == 20 ? 0 : 1;
}
