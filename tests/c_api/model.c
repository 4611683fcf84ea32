/* Opening models, and asking them about themselves. */
#include <stdint.h>

#include "harness.h"

void test_model_misuse(void) {
    ft_model *model = NULL;
    int64_t integer;
    double number;
    const char *text, *other;
    uint64_t bytes;
    const ft_checkpoint *checkpoint;
    ft_model_options options;

    CHECK_INVALID(ft_model_open(NULL, tiny("llama"), NULL));
    CHECK_INVALID(ft_model_open(&model, NULL, NULL));
    CHECK_INVALID((options = (ft_model_options)FT_MODEL_OPTIONS_INIT, options.device = "toaster",
                   ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID((options = (ft_model_options)FT_MODEL_OPTIONS_INIT, options.dtype = "float31",
                   ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID((options = (ft_model_options)FT_MODEL_OPTIONS_INIT, options.num_threads = -1,
                   ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID((options = (ft_model_options)FT_MODEL_OPTIONS_INIT, options.tensor_parallel = -1,
                   ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID((options = (ft_model_options)FT_MODEL_OPTIONS_INIT, options.pipeline_parallel = -1,
                   ft_model_open(&model, tiny("llama"), &options)));
    CHECK(model == NULL);

    CHECK_OK(ft_model_open(&model, tiny("llama"), NULL));
    CHECK_INVALID(ft_model_config_int(NULL, model, "hidden_size"));
    CHECK_INVALID(ft_model_config_int(&integer, NULL, "hidden_size"));
    CHECK_INVALID(ft_model_config_int(&integer, model, NULL));
    CHECK_INVALID(ft_model_config_float(NULL, model, "norm_epsilon"));
    CHECK_INVALID(ft_model_config_float(&number, NULL, "norm_epsilon"));
    CHECK_INVALID(ft_model_config_float(&number, model, NULL));
    CHECK_INVALID(ft_model_config_string(NULL, model, "architecture"));
    CHECK_INVALID(ft_model_config_string(&text, NULL, "architecture"));
    CHECK_INVALID(ft_model_config_string(&text, model, NULL));
    CHECK_INVALID(ft_model_config(NULL, model));
    CHECK_INVALID(ft_model_config(&text, NULL));
    CHECK_INVALID(ft_model_checkpoint(NULL, model));
    CHECK_INVALID(ft_model_checkpoint(&checkpoint, NULL));
    CHECK_OK(ft_model_placement(NULL, NULL, NULL, model)); /* each may be left out */
    CHECK_INVALID(ft_model_placement(&text, &other, &bytes, NULL));
    const int64_t tokens = 8, none = 0;
    CHECK_INVALID(ft_model_tune(NULL, &tokens, 1, NULL, NULL));
    CHECK_INVALID(ft_model_tune(model, NULL, 1, NULL, NULL));
    CHECK_INVALID(ft_model_tune(model, &none, 1, NULL, NULL));
    CHECK_INVALID(ft_model_tuning(&text, &other, NULL));
    CHECK_OK(ft_model_tuning(NULL, NULL, model));
    size_t count = 0;
    ft_rank_info rank = FT_RANK_INFO_INIT, unset = {0};
    CHECK_INVALID(ft_model_rank_count(NULL, model));
    CHECK_INVALID(ft_model_rank_count(&count, NULL));
    CHECK_OK(ft_model_rank_count(&count, model));
    CHECK(count == 1);
    CHECK_INVALID(ft_model_rank_info(NULL, model, 0));
    CHECK_INVALID(ft_model_rank_info(&rank, NULL, 0));
    CHECK_INVALID(ft_model_rank_info(&rank, model, 1));
    CHECK_INVALID(ft_model_rank_info(&unset, model, 0));
    CHECK_OK(ft_model_rank_info(&rank, model, 0));
    CHECK(!strcmp(rank.device, "cpu") && !*rank.transport && rank.num_layers == 2 && rank.num_kv_heads == 2);
    ft_model_close(model);
    ft_model_close(NULL);
}

void test_models_on_ranks(void) {
    ft_model *model = NULL;
    ft_model_options options = FT_MODEL_OPTIONS_INIT;
    options.device = "cpu,cpu,cpu,cpu";
    options.tensor_parallel = 2;
    options.pipeline_parallel = 2;
    options.num_threads = 2;
    CHECK_OK(ft_model_open(&model, tiny("llama"), &options));
    size_t count = 0;
    uint64_t bytes = 0, all = 0;
    CHECK_OK(ft_model_rank_count(&count, model));
    CHECK(count == 4);
    for (size_t r = 0; r < count; ++r) {
        ft_rank_info rank = FT_RANK_INFO_INIT;
        CHECK_OK(ft_model_rank_info(&rank, model, r));
        CHECK(rank.pipeline_stage == (int32_t)r / 2 && rank.tensor_rank == (int32_t)r % 2);
        CHECK(rank.first_layer == rank.pipeline_stage && rank.num_layers == 1 && rank.num_kv_heads == 1);
        CHECK(!strcmp(rank.transport, "shared memory"));
        all += rank.weight_bytes;
    }
    CHECK_OK(ft_model_placement(NULL, NULL, &bytes, model));
    CHECK(bytes == all);
    ft_model_close(model);
    CHECK_INVALID((options.device = "cpu,cpu,cpu", ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID((options.device = "cpu,", ft_model_open(&model, tiny("llama"), &options)));
    CHECK_INVALID(
        (options.device = "cpu", options.tensor_parallel = 3, ft_model_open(&model, tiny("llama"), &options)));
}

void test_model_queries(void) {
    ft_model *model = open_tiny("llama", 1);
    int64_t integer = 0;
    double number = 0;
    const char *text, *dtype, *json;
    uint64_t bytes = 0;
    static const struct {
        const char *key;
        int64_t value;
    } expected[] = {
        {"num_layers", 2}, {"hidden_size", 32}, {"num_heads", 4},       {"num_kv_heads", 2},
        {"head_dim", 8},   {"vocab_size", 96},  {"max_positions", 256},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i) {
        CHECK_OK(ft_model_config_int(&integer, model, expected[i].key));
        CHECK(integer == expected[i].value);
    }
    CHECK_OK(ft_model_config_string(&text, model, "architecture"));
    CHECK(!strcmp(text, "LlamaForCausalLM"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_model_config_int(&integer, model, "no_such_key"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_model_config_float(&number, model, "no_such_key"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_model_config_string(&text, model, "no_such_key"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_model_config_string(&text, model, ""));
    CHECK_INVALID(ft_model_config_int(&integer, model, "architecture"));
    CHECK_INVALID(ft_model_config_float(&number, model, "architecture"));
    CHECK_INVALID(ft_model_config_string(&text, model, "hidden_size"));

    CHECK_OK(ft_model_config(&json, model));
    CHECK(json[0] == '{' && strstr(json, "\"num_layers\""));
    CHECK_OK(ft_model_placement(&text, &dtype, &bytes, model));
    CHECK(!strcmp(text, "cpu") && !strcmp(dtype, "float32"));
    CHECK(bytes > 50000 && bytes < 1000000);
    const int64_t tokens = 8;
    CHECK(ft_model_tune(model, &tokens, 1, NULL, NULL) == FT_ERROR_UNSUPPORTED); /* the CPU has nothing to choose */
    CHECK_OK(ft_model_tuning(&text, &json, model));
    CHECK(!text[0] && !json[0]);

    const ft_checkpoint *checkpoint;
    CHECK_OK(ft_model_checkpoint(&checkpoint, model));
    CHECK_OK(ft_checkpoint_format(&text, checkpoint));
    CHECK(!strcmp(text, "safetensors"));
    ft_model_close(model);
}

typedef struct {
    int calls, cancel_at;
    uint64_t done, total;
} progress;

static int on_progress(uint64_t done, uint64_t total, void *user_data) {
    progress *seen = user_data;
    CHECK(done >= seen->done && done <= total && total > 0);
    seen->done = done;
    seen->total = total;
    return ++seen->calls == seen->cancel_at;
}

void test_model_progress(void) {
    progress seen = {0};
    ft_model_options options = FT_MODEL_OPTIONS_INIT;
    options.progress = on_progress;
    options.user_data = &seen;
    options.num_threads = 1; /* so that the number of calls is always the same */
    ft_model *model = NULL;
    CHECK_OK(ft_model_open(&model, tiny("llama"), &options));
    CHECK(seen.calls > 1 && seen.done == seen.total);
    ft_model_close(model);

    for (int at = 1, calls = seen.calls; at <= calls; ++at) {
        seen = (progress){.cancel_at = at};
        model = NULL;
        CHECK_STATUS(FT_ERROR_CANCELLED, ft_model_open(&model, tiny("llama"), &options));
        CHECK(model == NULL && seen.calls == at);
    }
}
