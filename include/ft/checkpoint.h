/*
 * Looking into a checkpoint without loading it: its configuration, tensors, metadata, and what a model of its
 * architecture would miss or leave unused. A checkpoint handle is immutable: any number of threads may read it.
 * Strings and shapes it returns belong to it and live until ft_checkpoint_close.
 */
#ifndef FT_CHECKPOINT_H
#define FT_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include <ft/export.h>
#include <ft/status.h>

FT_BEGIN_DECLS

typedef struct ft_checkpoint ft_checkpoint;

/*
 * Opens a Hugging Face folder (config.json and *.safetensors or pytorch_model.bin), a FasterTransformer folder
 * (config.ini), a Megatron-LM one, one that ft_convert wrote, or a .gguf file (v2, v3). Files are memory-mapped
 * and every offset, length, shape and dtype is checked; a fault is FT_ERROR_CHECKPOINT naming file, tensor and
 * fault. The files must not be truncated while the handle is open.
 */
FT_API ft_status ft_checkpoint_open(ft_checkpoint **out, const char *source);
FT_API void ft_checkpoint_close(ft_checkpoint *checkpoint);

/* "safetensors" (a Hugging Face folder), "gguf", "faster_transformer", "megatron" or "libft" (of ft_convert). */
FT_API ft_status ft_checkpoint_format(const char **out, const ft_checkpoint *checkpoint);

/*
 * The model's configuration in libft's own terms, as one JSON object (UTF-8): architecture, num_layers,
 * hidden_size, num_heads, num_kv_heads, head_dim, vocab_size, max_positions and what the family adds.
 */
FT_API ft_status ft_checkpoint_config(const char **out, const ft_checkpoint *checkpoint);

typedef enum ft_tensor_usage {
    FT_TENSOR_USED = 0,       /* a weight of the architecture */
    FT_TENSOR_UNUSED = 1,     /* in the files, but no weight of the architecture */
    FT_TENSOR_MISSING = 2,    /* a weight of the architecture that the files lack; file is NULL, size 0 */
    FT_TENSOR_UNSUPPORTED = 3 /* a weight of the architecture in a dtype or rank that the library lacks */
} ft_tensor_usage;

typedef struct ft_tensor_info {
    size_t struct_size;
    const char *name;     /* as the checkpoint spells it; for a missing one, the first name looked for */
    const char *dtype;    /* "float32", "bfloat16", "float16", "q4_0", "q4_k", ...; else the file's word: "F8_E4M3" */
    const char *file;     /* the file that holds it */
    const int64_t *shape; /* [ndim], outermost first */
    int32_t ndim;
    ft_tensor_usage usage;
    uint64_t size_bytes;
    const char *weights; /* libft's names of the weights it holds, or would hold, with ", " between: several where
                            query, key and value are stored as one; NULL when unused */
} ft_tensor_info;

#define FT_TENSOR_INFO_INIT {sizeof(ft_tensor_info), 0, 0, 0, 0, 0, FT_TENSOR_USED, 0, 0}

/* Tensors in the files, in file order, followed by those of dtypes and ranks that the library lacks (which may have any
 * number of axes; unused or unsupported), followed by the missing ones. */
FT_API ft_status ft_checkpoint_tensor_count(size_t *out, const ft_checkpoint *checkpoint);
FT_API ft_status ft_checkpoint_tensor(ft_tensor_info *out, const ft_checkpoint *checkpoint, size_t index);

typedef enum ft_metadata_type {
    FT_METADATA_INT = 0,
    FT_METADATA_FLOAT = 1,
    FT_METADATA_BOOL = 2,
    FT_METADATA_STRING = 3
} ft_metadata_type;

/*
 * GGUF key-value metadata (a Hugging Face folder has none). A scalar is an array of one. Keys are in file order.
 * FT_ERROR_NOT_FOUND for an unknown key or an index past the end; FT_ERROR_INVALID_ARGUMENT for another type.
 */
FT_API ft_status ft_checkpoint_metadata_count(size_t *out, const ft_checkpoint *checkpoint);
FT_API ft_status ft_checkpoint_metadata_key(const char **out, const ft_checkpoint *checkpoint, size_t index);
FT_API ft_status ft_checkpoint_metadata_type(ft_metadata_type *type, size_t *length, const ft_checkpoint *checkpoint,
                                             const char *key);
FT_API ft_status ft_checkpoint_metadata_int(int64_t *out, const ft_checkpoint *checkpoint, const char *key,
                                            size_t index); /* also for BOOL */
FT_API ft_status ft_checkpoint_metadata_float(double *out, const ft_checkpoint *checkpoint, const char *key,
                                              size_t index);
/* Strings may hold any bytes; `length` (may be NULL) counts them without the terminating zero. */
FT_API ft_status ft_checkpoint_metadata_string(const char **out, size_t *length, const ft_checkpoint *checkpoint,
                                               const char *key, size_t index);

FT_END_DECLS

#endif /* FT_CHECKPOINT_H */
