/* Converting: misuse leaves nothing behind, what is written is a model like the source. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static int stop_late(uint64_t done, uint64_t total, void *user_data) {
    int *calls = user_data;
    (void)done, (void)total;
    return ++*calls == 5;
}

void test_convert_misuse(void) {
    const workplace w = make_workplace();
    static const char *const names[] = {"a.txt", NULL}, *const texts[] = {"text", NULL};
    CHECK_INVALID(ft_convert(NULL, w.out, NULL));
    CHECK_INVALID(ft_convert(tiny("llama"), NULL, NULL));
    CHECK_INVALID(ft_convert(tiny("llama"), "", NULL));
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_convert("/absent", w.out, NULL));
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_convert(tiny("truncated"), w.out, NULL));
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_convert(tiny("missing"), w.out, NULL));
    char beyond[96];
    snprintf(beyond, sizeof beyond, "%s/absent/out", w.folder);
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_convert(tiny("llama"), beyond, NULL));
#define REFUSED(change)                                      \
    do {                                                     \
        ft_convert_options o = FT_CONVERT_OPTIONS_INIT;      \
        change;                                              \
        CHECK_INVALID(ft_convert(tiny("llama"), w.out, &o)); \
        CHECK(entries(w.folder) == 0);                       \
    } while (0)
    REFUSED(o.dtype = "int8");
    REFUSED(o.dtype = "float64");
    REFUSED(o.dtype = "q4_0");
    REFUSED(o.dtype = "nonsense");
    REFUSED(o.tensor_parallel = -1);
    REFUSED(o.tensor_parallel = 3);
    REFUSED(o.tensor_parallel = INT32_MAX);
    REFUSED(o.pipeline_parallel = -1);
    REFUSED(o.pipeline_parallel = 3);
    REFUSED(o.pipeline_parallel = INT32_MIN);
    REFUSED(o.num_files = -1);
    REFUSED(o.num_files = 1);
    REFUSED((o.num_files = 1, o.file_names = names));
    REFUSED((o.num_files = 1, o.file_contents = texts));
    REFUSED((o.num_files = 2, o.file_names = names, o.file_contents = texts));
    static const char *const wrong[] = {"", ".", "..", "../a.txt", "a/b.txt", "manifest.json", "w.safetensors"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i)
        REFUSED((o.num_files = 1, o.file_names = &wrong[i], o.file_contents = texts));
#undef REFUSED

    int calls = 0;
    ft_convert_options stopping = FT_CONVERT_OPTIONS_INIT;
    stopping.progress = stop_late;
    stopping.user_data = &calls;
    CHECK_STATUS(FT_ERROR_CANCELLED, ft_convert(tiny("llama"), w.out, &stopping));
    CHECK(calls == 5 && entries(w.folder) == 0);
    remove_workplace(&w);
}

void test_convert_destinations(void) {
    const workplace w = make_workplace();
    ft_convert_options over = FT_CONVERT_OPTIONS_INIT;
    over.overwrite = 1;
    /* Neither a folder of the caller's nor a file is replaced. */
    CHECK(mkdir(w.out, 0755) == 0);
    CHECK_INVALID(ft_convert(tiny("llama"), w.out, NULL));
    CHECK_INVALID(ft_convert(tiny("llama"), w.out, &over));
    CHECK(rmdir(w.out) == 0);
    FILE *file = fopen(w.out, "w");
    CHECK(file && fclose(file) == 0);
    CHECK_INVALID(ft_convert(tiny("llama"), w.out, &over));
    CHECK(unlink(w.out) == 0);

    /* A folder that converting wrote is, when that is asked for; onto itself too. */
    CHECK_OK(ft_convert(tiny("llama"), w.out, &over));
    CHECK_INVALID(ft_convert(tiny("t5"), w.out, NULL));
    over.tensor_parallel = 2;
    CHECK_OK(ft_convert(w.out, w.out, &over));
    CHECK(entries(w.folder) == 1);
    remove_workplace(&w);
}

/* Split over ranks and stages, and joined by whoever loads it: the same model. */
void test_convert_and_load(void) {
    static const char *const sources[] = {"llama", "llama.gguf", "t5"};
    static const char *const names[] = {"tokenizer.json", "notes.txt"}, *const texts[] = {"{}", "ours"};
    int32_t prompt[20], expected[12], got[12];
    make_prompt(prompt, 20, 5);
    for (size_t s = 0; s < sizeof sources / sizeof *sources; ++s) {
        const workplace w = make_workplace();
        ft_convert_options options = FT_CONVERT_OPTIONS_INIT;
        options.tensor_parallel = 2;
        options.pipeline_parallel = 2;
        options.file_names = names;
        options.file_contents = texts;
        options.num_files = 2;
        CHECK_OK(ft_convert(tiny(sources[s]), w.out, &options));
        CHECK(entries(w.folder) == 1);

        ft_model *model = open_tiny(sources[s], 1), *converted = NULL;
        ft_session *session = open_session(model);
        const ft_generate_options settings = greedy(12);
        CHECK(generate(expected, 12, session, prompt, 20, &settings) == 12);
        ft_session_destroy(session);
        ft_model_close(model);
        CHECK_OK(ft_model_open(&converted, w.out, NULL));
        session = open_session(converted);
        CHECK(generate(got, 12, session, prompt, 20, &settings) == 12);
        CHECK(!memcmp(got, expected, sizeof got));
        ft_session_destroy(session);
        ft_model_close(converted);

        char path[96], text[8] = {0};
        snprintf(path, sizeof path, "%s/notes.txt", w.out);
        FILE *notes = fopen(path, "r");
        CHECK(notes && fread(text, 1, 7, notes) == 4 && !strcmp(text, "ours"));
        if (notes) fclose(notes);
        remove_workplace(&w);
    }
}
