/*
 * A model: a checkpoint's weights in the layout of the device that computes on them.
 *
 * A model handle may be used from any number of threads at once; calls that compute take turns inside. Sessions
 * and tensors made from a model keep what they need of it, so the handle may be closed before them.
 */
#ifndef FT_MODEL_H
#define FT_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include <ft/checkpoint.h>
#include <ft/export.h>
#include <ft/status.h>

FT_BEGIN_DECLS

typedef struct ft_model ft_model;

/* Bytes of weights placed so far, of the first rank's. A non-zero return cancels: the call then fails with
 * FT_ERROR_CANCELLED. */
typedef int (*ft_progress_callback)(uint64_t done, uint64_t total, void *user_data);

/*
 * A caller's own memory on the model's device: `bytes` of it, aligned to 256; NULL when there is none, which makes the
 * call that wanted it fail with FT_ERROR_OUT_OF_MEMORY. `device` is the GPU's number, 0 for the CPU. Any thread,
 * perhaps several at once. Memory is given back when no work of the device uses it any more, at the latest when the
 * model, its sessions and the tensors that were computed by it are gone; the functions must work until then, and must
 * not throw.
 */
typedef void *(*ft_allocate_callback)(void *user_data, size_t bytes, int32_t device);
typedef void (*ft_deallocate_callback)(void *user_data, void *data, size_t bytes, int32_t device);

typedef struct ft_model_options {
    size_t struct_size;
    const char *device; /* "auto" (the first GPU, else the CPU), "cpu", "cuda", "cuda:1"; NULL is "auto". Of
                           several ranks one for all, or one each, with commas between them: "cpu,cpu" */
    const char *dtype;  /* "auto" (the checkpoint's), "float32", "bfloat16", "float16", "int8"; NULL: "auto" */
    /*
     * Ranks that each layer is split over, and stages that the layers are dealt to; 0 is 1. Where both are 1 and
     * several devices are named, the layers are split over those. Rank = stage * tensor_parallel + tensor rank. All
     * ranks are threads of this process, and lie on the CPU today.
     */
    int32_t tensor_parallel;
    int32_t pipeline_parallel;
    int32_t num_threads; /* of the CPU backend, the calling thread included, over all ranks; 0 is one a core */
    ft_progress_callback progress; /* may be NULL; called from the calling thread */
    void *user_data;
    /*
     * A cudaStream_t of the device: all of the model's work is queued there, after what the caller has queued, and it
     * must live as long as the model. NULL: a stream of the model's own. One that was made without
     * cudaStreamNonBlocking, and cudaStreamLegacy itself, keep steps from being recorded as graphs;
     * cudaStreamPerThread is refused, since it is another stream in each thread.
     */
    void *stream;
    ft_allocate_callback allocate; /* both or neither: weights, keys and values, activations and the outputs that stay
                                      on the device lie in this memory. NULL: in the library's own */
    ft_deallocate_callback deallocate;
    void *allocator_data; /* what the two are called with */
} ft_model_options;

#define FT_MODEL_OPTIONS_INIT {sizeof(ft_model_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Opens and loads `source` (see ft_checkpoint_open). options may be NULL. Blocks until loaded. */
FT_API ft_status ft_model_open(ft_model **out, const char *source, const ft_model_options *options);

/* Drops the caller's handle. NULL is allowed. */
FT_API void ft_model_close(ft_model *model);

/*
 * Configuration by key: "hidden_size", "num_layers", ...; the keys are those of ft_model_config's JSON object.
 * FT_ERROR_NOT_FOUND for an unknown key, FT_ERROR_INVALID_ARGUMENT when the value has another type.
 */
FT_API ft_status ft_model_config_int(int64_t *out, const ft_model *model, const char *key);
FT_API ft_status ft_model_config_float(double *out, const ft_model *model, const char *key);
FT_API ft_status ft_model_config_string(const char **out, const ft_model *model, const char *key);

/* The whole configuration as a JSON object. The string lives as long as the model. */
FT_API ft_status ft_model_config(const char **out, const ft_model *model);

/* The checkpoint behind the model: borrowed, lives as long as the model, must not be closed. */
FT_API ft_status ft_model_checkpoint(const ft_checkpoint **out, const ft_model *model);

/*
 * Where and how the weights lie: the first rank's device's name, the compute dtype's name, the bytes held by all ranks.
 * Each may be NULL.
 */
FT_API ft_status ft_model_placement(const char **device, const char **dtype, uint64_t *weight_bytes,
                                    const ft_model *model);

/* One rank of a model: where it is and what it has. The strings live as long as the model. */
typedef struct ft_rank_info {
    size_t struct_size;
    const char *device;
    int32_t tensor_rank;    /* its share of each layer */
    int32_t pipeline_stage; /* its share of the layers: */
    int64_t first_layer;    /* of an encoder-decoder, the decoder's */
    int64_t num_layers;
    int64_t num_kv_heads; /* in each */
    uint64_t weight_bytes;
    const char *transport; /* what carries what it says to other ranks, "shared memory"; "": there are none */
} ft_rank_info;

#define FT_RANK_INFO_INIT {sizeof(ft_rank_info), 0, 0, 0, 0, 0, 0, 0, 0}

/* How many ranks there are, and one of them, 0 to *count - 1; FT_ERROR_INVALID_ARGUMENT beyond. */
FT_API ft_status ft_model_rank_count(size_t *count, const ft_model *model);
FT_API ft_status ft_model_rank_info(ft_rank_info *out, const ft_model *model, size_t rank);

/* A matrix product's shape in words, and the microseconds it took before and takes now. */
typedef void (*ft_tune_callback)(const char *product, double before, double after, void *user_data);

/*
 * Times, on this GPU, the algorithms for the products of passes of these numbers of tokens (each 1 to 1048576), and
 * keeps the fastest for this process and, in a file, for later ones. One kept for a number of tokens serves all up to
 * the next power of two. `report` may be NULL; it is called when all has been timed, from the calling thread.
 * Takes seconds a number; other work on the GPU spoils it. FT_ERROR_UNSUPPORTED on the CPU; FT_ERROR_CHECKPOINT when
 * the file cannot be written.
 */
FT_API ft_status ft_model_tune(ft_model *model, const int64_t *token_counts, size_t num_counts, ft_tune_callback report,
                               void *user_data);

/*
 * The file such choices are kept in ("": there is none, as on the CPU), and why it is ignored ("": it is not). It is
 * read when the first product is computed. Valid until the calling thread calls this again. Each may be NULL.
 */
FT_API ft_status ft_model_tuning(const char **path, const char **problem, const ft_model *model);

FT_END_DECLS

#endif /* FT_MODEL_H */
