/* Looking into checkpoints: queries, metadata, faulty files. */
#include "harness.h"

void test_checkpoint_misuse(void) {
    ft_checkpoint *checkpoint = NULL;
    const char *text;
    size_t count;
    int64_t integer;
    double number;
    ft_metadata_type type;
    ft_tensor_info info = FT_TENSOR_INFO_INIT;

    CHECK_INVALID(ft_checkpoint_open(NULL, tiny("llama")));
    CHECK_INVALID(ft_checkpoint_open(&checkpoint, NULL));
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_checkpoint_open(&checkpoint, ""));
    CHECK(checkpoint == NULL);
    CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("llama.gguf")));

    CHECK_INVALID(ft_checkpoint_format(NULL, checkpoint));
    CHECK_INVALID(ft_checkpoint_format(&text, NULL));
    CHECK_INVALID(ft_checkpoint_config(NULL, checkpoint));
    CHECK_INVALID(ft_checkpoint_config(&text, NULL));
    CHECK_INVALID(ft_checkpoint_tensor_count(NULL, checkpoint));
    CHECK_INVALID(ft_checkpoint_tensor_count(&count, NULL));
    CHECK_INVALID(ft_checkpoint_tensor(NULL, checkpoint, 0));
    CHECK_INVALID(ft_checkpoint_tensor(&info, NULL, 0));
    CHECK_INVALID(ft_checkpoint_metadata_count(NULL, checkpoint));
    CHECK_INVALID(ft_checkpoint_metadata_count(&count, NULL));
    CHECK_INVALID(ft_checkpoint_metadata_key(NULL, checkpoint, 0));
    CHECK_INVALID(ft_checkpoint_metadata_key(&text, NULL, 0));
    CHECK_INVALID(ft_checkpoint_metadata_type(NULL, &count, checkpoint, "general.name"));
    CHECK_INVALID(ft_checkpoint_metadata_type(&type, NULL, checkpoint, "general.name"));
    CHECK_INVALID(ft_checkpoint_metadata_type(&type, &count, NULL, "general.name"));
    CHECK_INVALID(ft_checkpoint_metadata_type(&type, &count, checkpoint, NULL));
    CHECK_INVALID(ft_checkpoint_metadata_int(NULL, checkpoint, "general.alignment", 0));
    CHECK_INVALID(ft_checkpoint_metadata_int(&integer, NULL, "general.alignment", 0));
    CHECK_INVALID(ft_checkpoint_metadata_int(&integer, checkpoint, NULL, 0));
    CHECK_INVALID(ft_checkpoint_metadata_float(NULL, checkpoint, "llama.rope.freq_base", 0));
    CHECK_INVALID(ft_checkpoint_metadata_float(&number, NULL, "llama.rope.freq_base", 0));
    CHECK_INVALID(ft_checkpoint_metadata_float(&number, checkpoint, NULL, 0));
    CHECK_INVALID(ft_checkpoint_metadata_string(NULL, NULL, checkpoint, "general.name", 0));
    CHECK_INVALID(ft_checkpoint_metadata_string(&text, NULL, NULL, "general.name", 0));
    CHECK_INVALID(ft_checkpoint_metadata_string(&text, NULL, checkpoint, NULL, 0));

    ft_checkpoint_close(checkpoint);
    ft_checkpoint_close(NULL);
}

void test_checkpoint_faults(void) {
    ft_checkpoint *checkpoint = NULL;
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_checkpoint_open(&checkpoint, "/no/such/folder"));
    CHECK(strstr(ft_last_error(), "/no/such/folder"));
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_checkpoint_open(&checkpoint, tiny("truncated")));
    CHECK(strstr(ft_last_error(), "model.safetensors"));
    CHECK(checkpoint == NULL);

    ft_model *model = NULL;
    CHECK_STATUS(FT_ERROR_CHECKPOINT, ft_model_open(&model, tiny("missing"), NULL));
    CHECK(strstr(ft_last_error(), "model.layers.1.mlp.down_proj.weight"));
    CHECK(model == NULL);
}

void test_checkpoint_tensors(void) {
    ft_checkpoint *checkpoint;
    const char *text;
    size_t count;
    CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("llama")));
    CHECK_OK(ft_checkpoint_format(&text, checkpoint));
    CHECK(!strcmp(text, "safetensors"));
    CHECK_OK(ft_checkpoint_config(&text, checkpoint));
    CHECK(strstr(text, "\"hidden_size\"") && strstr(text, "LlamaForCausalLM"));
    CHECK_OK(ft_checkpoint_tensor_count(&count, checkpoint));
    CHECK(count == 21);
    for (size_t i = 0; i < count; ++i) {
        ft_tensor_info info = FT_TENSOR_INFO_INIT;
        CHECK_OK(ft_checkpoint_tensor(&info, checkpoint, i));
        CHECK(info.usage == FT_TENSOR_USED && !strcmp(info.dtype, "float32") && info.file && info.ndim >= 1);
        uint64_t elements = 1;
        for (int32_t d = 0; d < info.ndim; ++d) elements *= (uint64_t)info.shape[d];
        CHECK(info.size_bytes == 4 * elements);
        CHECK(info.weights && !strchr(info.weights, ','));
        if (!strcmp(info.name, "model.layers.1.self_attn.k_proj.weight"))
            CHECK(!strcmp(info.weights, "layers.1.attention.key.weight"));
    }
    ft_tensor_info past = FT_TENSOR_INFO_INIT;
    CHECK(ft_checkpoint_tensor(&past, checkpoint, count) != FT_OK);
    CHECK(ft_checkpoint_tensor(&past, checkpoint, SIZE_MAX) != FT_OK);
    ft_checkpoint_close(checkpoint);

    CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("missing")));
    CHECK_OK(ft_checkpoint_tensor_count(&count, checkpoint));
    CHECK(count == 22);
    int unused = 0, missing = 0;
    for (size_t i = 0; i < count; ++i) {
        ft_tensor_info info = FT_TENSOR_INFO_INIT;
        CHECK_OK(ft_checkpoint_tensor(&info, checkpoint, i));
        if (info.usage == FT_TENSOR_UNUSED) {
            ++unused;
            CHECK(!strcmp(info.name, "nobody.asked.for.this") && info.weights == NULL);
        } else if (info.usage == FT_TENSOR_MISSING) {
            ++missing;
            CHECK(i == count - 1 && info.file == NULL && info.size_bytes == 0);
            CHECK(!strcmp(info.name, "model.layers.1.mlp.down_proj.weight"));
            CHECK(!strcmp(info.weights, "layers.1.feed_forward.down.weight"));
        }
    }
    CHECK(unused == 1 && missing == 1);
    ft_checkpoint_close(checkpoint);
}

void test_checkpoint_metadata(void) {
    ft_checkpoint *checkpoint;
    const char *text;
    size_t count, length;
    ft_metadata_type type;
    int64_t integer;
    double number;
    CHECK_OK(ft_checkpoint_open(&checkpoint, tiny("llama.gguf")));
    CHECK_OK(ft_checkpoint_format(&text, checkpoint));
    CHECK(!strcmp(text, "gguf"));
    CHECK_OK(ft_checkpoint_metadata_count(&count, checkpoint));
    CHECK(count == 18);
    CHECK_OK(ft_checkpoint_metadata_key(&text, checkpoint, 0));
    CHECK(!strcmp(text, "general.architecture"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_key(&text, checkpoint, count));

    CHECK_OK(ft_checkpoint_metadata_type(&type, &length, checkpoint, "tokenizer.ggml.tokens"));
    CHECK(type == FT_METADATA_STRING && length == 96);
    CHECK_OK(ft_checkpoint_metadata_string(&text, &length, checkpoint, "tokenizer.ggml.tokens", 95));
    CHECK(!strcmp(text, "<95>") && length == 4);
    CHECK_OK(ft_checkpoint_metadata_string(&text, NULL, checkpoint, "general.name", 0));
    CHECK(!strcmp(text, "tiny"));
    CHECK_OK(ft_checkpoint_metadata_type(&type, &length, checkpoint, "llama.rope.freq_base"));
    CHECK(type == FT_METADATA_FLOAT && length == 1);
    CHECK_OK(ft_checkpoint_metadata_float(&number, checkpoint, "llama.rope.freq_base", 0));
    CHECK(number == 10000.0);
    CHECK_OK(ft_checkpoint_metadata_type(&type, &length, checkpoint, "general.alignment"));
    CHECK(type == FT_METADATA_INT && length == 1);
    CHECK_OK(ft_checkpoint_metadata_int(&integer, checkpoint, "general.alignment", 0));
    CHECK(integer == 32);
    CHECK_OK(ft_checkpoint_metadata_type(&type, &length, checkpoint, "tokenizer.ggml.add_bos_token"));
    CHECK(type == FT_METADATA_BOOL && length == 1);
    CHECK_OK(ft_checkpoint_metadata_int(&integer, checkpoint, "tokenizer.ggml.add_bos_token", 0));
    CHECK(integer == 0);

    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_type(&type, &length, checkpoint, "no.such.key"));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_int(&integer, checkpoint, "no.such.key", 0));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_float(&number, checkpoint, "no.such.key", 0));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_string(&text, NULL, checkpoint, "no.such.key", 0));
    CHECK_STATUS(FT_ERROR_NOT_FOUND, ft_checkpoint_metadata_int(&integer, checkpoint, "general.alignment", 1));
    CHECK_STATUS(FT_ERROR_NOT_FOUND,
                 ft_checkpoint_metadata_string(&text, NULL, checkpoint, "tokenizer.ggml.tokens", SIZE_MAX));
    CHECK_INVALID(ft_checkpoint_metadata_int(&integer, checkpoint, "general.name", 0));
    CHECK_INVALID(ft_checkpoint_metadata_string(&text, NULL, checkpoint, "general.alignment", 0));
    CHECK_INVALID(ft_checkpoint_metadata_float(&number, checkpoint, "general.name", 0));
    ft_checkpoint_close(checkpoint);
}
