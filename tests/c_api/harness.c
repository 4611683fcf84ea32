/* What the C API's tests share: messages, tiny models, prompts. */
#include "harness.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

atomic_int failed_checks;

static const char other_key[] = "a key that no test asks for";

void provoke_other_message(void) {
    static ft_checkpoint *checkpoint;
    (void)ft_checkpoint_open(&checkpoint, other_key);
}

int is_other_message(void) { return strstr(ft_last_error(), other_key) != NULL; }

const char *tiny(const char *name) {
    static const struct {
        const char *name, *path;
    } models[] = {
        {"llama", FT_TINY "/llama"}, {"llama.gguf", FT_TINY "/llama.gguf"}, {"bert", FT_TINY "/bert"},
        {"t5", FT_TINY "/t5"},       {"truncated", FT_TINY "/truncated"},   {"missing", FT_TINY "/missing"},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; ++i)
        if (!strcmp(models[i].name, name)) return models[i].path;
    printf("there is no tiny model '%s'\n", name);
    exit(2);
}

ft_model *open_tiny(const char *name, int threads) {
    ft_model_options options = FT_MODEL_OPTIONS_INIT;
    options.device = "cpu";
    options.num_threads = threads;
    ft_model *model = NULL;
    if (ft_model_open(&model, tiny(name), &options) != FT_OK) {
        printf("cannot open %s: %s\n", tiny(name), ft_last_error());
        exit(2);
    }
    return model;
}

ft_session *open_session(ft_model *model) {
    ft_session_options options = FT_SESSION_OPTIONS_INIT;
    options.kv_cache_bytes = 4 << 20;
    ft_session *session = NULL;
    if (ft_session_create(&session, model, &options) != FT_OK) {
        printf("cannot create a session: %s\n", ft_last_error());
        exit(2);
    }
    return session;
}

void make_prompt(int32_t *tokens, size_t length, unsigned seed) {
    for (size_t i = 0; i < length; ++i) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(2 + (seed >> 8) % 94);
    }
}

ft_generate_options greedy(int32_t max_new_tokens) {
    ft_generate_options options = FT_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = max_new_tokens;
    options.num_stop_token_ids = 0;
    return options;
}

size_t generate(int32_t *tokens, size_t capacity, ft_session *session, const int32_t *prompt, size_t length,
                const ft_generate_options *options) {
    ft_request *request = NULL;
    size_t count = 0;
    CHECK_OK(ft_session_submit(&request, session, prompt, length, options, NULL, NULL, NULL));
    CHECK_OK(ft_request_wait(request));
    CHECK_OK(ft_request_tokens(&count, tokens, NULL, capacity, request));
    ft_request_release(request);
    return count < capacity ? count : capacity;
}

workplace make_workplace(void) {
    workplace w = {.folder = "/tmp/ft-c-api-XXXXXX"};
    if (!mkdtemp(w.folder)) {
        printf("cannot make %s\n", w.folder);
        exit(2);
    }
    snprintf(w.out, sizeof w.out, "%s/out", w.folder);
    return w;
}

/* Counts a folder's entries; removes them, which are files, when asked to. */
static int visit(const char *folder, int removing) {
    DIR *listing = opendir(folder);
    int count = 0;
    for (struct dirent *entry; listing && (entry = readdir(listing)) != NULL;) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        ++count;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (removing) unlink(path);
    }
    if (listing) closedir(listing);
    return count;
}

int entries(const char *folder) { return visit(folder, 0); }

void remove_workplace(const workplace *w) {
    visit(w->out, 1);
    rmdir(w->out);
    CHECK(rmdir(w->folder) == 0);
}
