/*
 * Shows what a checkpoint holds, without loading it: its configuration, its tensors, and what a model of its
 * architecture would miss or leave unused.
 *
 *   inspect MODEL
 *
 * Ends with status 1 when tensors are missing.
 */
#include <inttypes.h>

#include "example.h"

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s MODEL\n", argv[0]);
        return 2;
    }
    ft_checkpoint *checkpoint = NULL;
    const char *format, *config;
    size_t count;
    check(ft_checkpoint_open(&checkpoint, argv[1]), argv[1]);
    check(ft_checkpoint_format(&format, checkpoint), "format");
    check(ft_checkpoint_config(&config, checkpoint), "config");
    check(ft_checkpoint_tensor_count(&count, checkpoint), "tensors");
    printf("libft %s\n%s\n%s\n", ft_version(), format, config);

    static const char *const usages[] = {"", " (unused)", " (MISSING)", " (UNSUPPORTED)"};
    uint64_t total = 0;
    int missing = 0;
    for (size_t i = 0; i < count; ++i) {
        ft_tensor_info info = FT_TENSOR_INFO_INIT;
        check(ft_checkpoint_tensor(&info, checkpoint, i), "tensor");
        printf("%-60s %-9s [", info.name, info.dtype);
        for (int32_t d = 0; d < info.ndim; ++d) printf("%s%" PRId64, d ? ", " : "", info.shape[d]);
        printf("]%s\n", usages[info.usage]);
        total += info.size_bytes;
        missing += info.usage == FT_TENSOR_MISSING;
    }
    printf("%zu tensors, %.1f MiB, %d missing\n", count, (double)total / (1 << 20), missing);
    ft_checkpoint_close(checkpoint);
    return missing > 0;
}
