/*
 * Embeds sentences with an encoder and prints how similar they are:
 *
 *   encode MODEL "101 7592 102" "101 2088 102" ...        one argument of token ids a sentence; see example.h
 *
 * Rows of different lengths go in one ragged batch: all ids one after another, and where each row begins. Nothing is
 * padded.
 */
#include "example.h"

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL \"IDS\" [\"IDS\" ...]\n", argv[0]);
        return 2;
    }
    token_list ids = {0}, offsets = {0};
    append_token(&offsets, 0);
    for (int i = 2; i < argc; ++i) {
        read_tokens(&ids, argv[i]);
        append_token(&offsets, (long)ids.count);
    }

    ft_model *model = NULL;
    check(ft_model_open(&model, argv[1], NULL), argv[1]);

    /* Wrap the two arrays as tensors; nothing is copied. */
    const ft_dtype int32 = {FT_DTYPE_INT, 32, 1};
    const ft_device cpu = {FT_DEVICE_CPU, 0};
    int64_t num_ids = (int64_t)ids.count, num_offsets = (int64_t)offsets.count;
    ft_dl_tensor ids_view = {ids.data, cpu, 1, int32, &num_ids, NULL, 0};
    ft_dl_tensor offsets_view = {offsets.data, cpu, 1, int32, &num_offsets, NULL, 0};
    ft_tensor *input_ids = NULL, *row_offsets = NULL;
    check(ft_tensor_wrap(&input_ids, &ids_view, NULL, NULL), "input_ids");
    check(ft_tensor_wrap(&row_offsets, &offsets_view, NULL, NULL), "row_offsets");

    ft_forward_inputs inputs = FT_FORWARD_INPUTS_INIT;
    inputs.input_ids = input_ids;
    inputs.row_offsets = row_offsets;
    ft_forward_options options = FT_FORWARD_OPTIONS_INIT; /* pooled as the checkpoint says, and normalised */
    options.outputs = FT_OUTPUT_EMBEDDING;
    ft_forward_outputs outputs = FT_FORWARD_OUTPUTS_INIT;
    check(ft_forward(&outputs, model, &inputs, &options), "forward");

    ft_dl_tensor embedding;
    check(ft_tensor_view(&embedding, outputs.embedding), "embedding");
    const float *values = (const float *)((const char *)embedding.data + embedding.byte_offset);
    const int64_t rows = embedding.shape[0], width = embedding.shape[1];
    printf("%lld embeddings of %lld numbers; cosine similarities:\n", (long long)rows, (long long)width);
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < rows; ++j) {
            double dot = 0;
            for (int64_t k = 0; k < width; ++k) dot += (double)values[i * width + k] * values[j * width + k];
            printf(" %7.4f", dot);
        }
        printf("\n");
    }

    ft_tensor_release(outputs.embedding);
    ft_tensor_release(input_ids);
    ft_tensor_release(row_offsets);
    ft_model_close(model);
    free(ids.data);
    free(offsets.data);
    return 0;
}
