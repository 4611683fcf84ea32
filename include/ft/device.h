/* What this process can compute on. */
#ifndef FT_DEVICE_H
#define FT_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/status.h>
#include <ft/tensor.h>

FT_BEGIN_DECLS

typedef struct ft_device_info {
    size_t struct_size;
    ft_device device;
    const char *name;         /* "cpu", "cuda:0"; what ft_model_options.device takes */
    const char *description;  /* the processor's or GPU's own name */
    const char *capabilities; /* space-separated, e.g. the instruction sets found; the one in use comes first */
    uint64_t memory_bytes;    /* in all */
    int32_t num_threads;      /* threads a model uses by default; 0 for a GPU */
} ft_device_info;

#define FT_DEVICE_INFO_INIT {sizeof(ft_device_info), {0, 0}, 0, 0, 0, 0, 0}

/* How many devices there are: 1 for the CPU, plus the usable GPUs. Any thread. */
FT_API ft_status ft_device_count(size_t *out);

/* Describes device `index`. The strings are static. out->struct_size must be set. Any thread. */
FT_API ft_status ft_device_get(ft_device_info *out, size_t index);

/* Why there is no GPU among them, in words; NULL when there is one. The string is static. Any thread. */
FT_API ft_status ft_device_problem(const char **out);

FT_END_DECLS

#endif /* FT_DEVICE_H */
