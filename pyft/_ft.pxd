# The C API, declaration by declaration as in include/ft: what the extension modules call. Reasons, ownership and
# thread rules are written in the headers and not repeated here.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "ft/version.h" nogil:
    const char *ft_version()


cdef extern from "ft/status.h" nogil:
    ctypedef enum ft_status:
        FT_OK
        FT_ERROR_INVALID_ARGUMENT
        FT_ERROR_OUT_OF_MEMORY
        FT_ERROR_CHECKPOINT
        FT_ERROR_UNSUPPORTED
        FT_ERROR_CANCELLED
        FT_ERROR_PARALLEL
        FT_ERROR_NOT_FOUND
        FT_ERROR_FORKED
        FT_ERROR_INTERNAL
    const char *ft_status_name(ft_status status)
    const char *ft_last_error()


cdef extern from "ft/tensor.h" nogil:
    int FT_DEVICE_CPU
    int FT_DEVICE_CUDA
    int FT_DEVICE_CUDA_HOST
    int FT_DTYPE_INT
    int FT_DTYPE_UINT
    int FT_DTYPE_FLOAT
    int FT_DTYPE_BFLOAT
    int FT_DTYPE_BOOL

    ctypedef struct ft_device:
        int32_t device_type
        int32_t device_id

    ctypedef struct ft_dtype:
        uint8_t code
        uint8_t bits
        uint16_t lanes

    ctypedef struct ft_dl_tensor:
        void *data
        ft_device device
        int32_t ndim
        ft_dtype dtype
        int64_t *shape
        int64_t *strides
        uint64_t byte_offset

    ctypedef struct ft_dl_version:
        uint32_t major
        uint32_t minor

    uint64_t FT_DL_FLAG_READ_ONLY
    uint64_t FT_DL_FLAG_IS_COPIED

    ctypedef struct ft_dl_managed_tensor:
        ft_dl_version version
        void *manager_ctx
        void (*deleter)(ft_dl_managed_tensor *self) noexcept nogil
        uint64_t flags
        ft_dl_tensor dl_tensor

    ctypedef struct ft_tensor:
        pass

    ctypedef void (*ft_release_callback)(void *user_data) noexcept nogil

    ft_status ft_tensor_wrap(ft_tensor **out, const ft_dl_tensor *view, ft_release_callback release, void *user_data)
    ft_status ft_tensor_create(ft_tensor **out, ft_dtype dtype, int32_t ndim, const int64_t *shape)
    ft_status ft_tensor_view(ft_dl_tensor *out, const ft_tensor *tensor)
    void ft_tensor_retain(ft_tensor *tensor)
    void ft_tensor_release(ft_tensor *tensor)
    ft_status ft_tensor_to_dlpack(ft_dl_managed_tensor **out, ft_tensor *tensor)
    ft_status ft_tensor_from_dlpack(ft_tensor **out, ft_dl_managed_tensor *managed)
    ft_status ft_tensor_ready_after(ft_tensor *tensor, void *stream)
    ft_status ft_tensor_wait(const ft_tensor *tensor, void *stream)
    ft_status ft_tensor_to_host(ft_tensor **out, const ft_tensor *tensor)
    ft_status ft_exchange_stream(void **out, ft_device device)


cdef extern from "ft/device.h" nogil:
    ctypedef struct ft_device_info:
        size_t struct_size
        ft_device device
        const char *name
        const char *description
        const char *capabilities
        uint64_t memory_bytes
        int32_t num_threads

    ft_status ft_device_count(size_t *out)
    ft_status ft_device_get(ft_device_info *out, size_t index)
    ft_status ft_device_problem(const char **out)


cdef extern from "ft/checkpoint.h" nogil:
    ctypedef struct ft_checkpoint:
        pass

    ft_status ft_checkpoint_open(ft_checkpoint **out, const char *source)
    void ft_checkpoint_close(ft_checkpoint *checkpoint)
    ft_status ft_checkpoint_format(const char **out, const ft_checkpoint *checkpoint)
    ft_status ft_checkpoint_config(const char **out, const ft_checkpoint *checkpoint)

    ctypedef enum ft_tensor_usage:
        FT_TENSOR_USED
        FT_TENSOR_UNUSED
        FT_TENSOR_MISSING
        FT_TENSOR_UNSUPPORTED

    ctypedef struct ft_tensor_info:
        size_t struct_size
        const char *name
        const char *dtype
        const char *file
        const int64_t *shape
        int32_t ndim
        ft_tensor_usage usage
        uint64_t size_bytes
        const char *weights

    ft_status ft_checkpoint_tensor_count(size_t *out, const ft_checkpoint *checkpoint)
    ft_status ft_checkpoint_tensor(ft_tensor_info *out, const ft_checkpoint *checkpoint, size_t index)

    ctypedef enum ft_metadata_type:
        FT_METADATA_INT
        FT_METADATA_FLOAT
        FT_METADATA_BOOL
        FT_METADATA_STRING

    ft_status ft_checkpoint_metadata_count(size_t *out, const ft_checkpoint *checkpoint)
    ft_status ft_checkpoint_metadata_key(const char **out, const ft_checkpoint *checkpoint, size_t index)
    ft_status ft_checkpoint_metadata_type(ft_metadata_type *type, size_t *length, const ft_checkpoint *checkpoint,
                                          const char *key)
    ft_status ft_checkpoint_metadata_int(int64_t *out, const ft_checkpoint *checkpoint, const char *key, size_t index)
    ft_status ft_checkpoint_metadata_float(double *out, const ft_checkpoint *checkpoint, const char *key,
                                           size_t index)
    ft_status ft_checkpoint_metadata_string(const char **out, size_t *length, const ft_checkpoint *checkpoint,
                                            const char *key, size_t index)


cdef extern from "ft/model.h" nogil:
    ctypedef struct ft_model:
        pass

    ctypedef int (*ft_progress_callback)(uint64_t done, uint64_t total, void *user_data) noexcept nogil
    ctypedef void *(*ft_allocate_callback)(void *user_data, size_t bytes, int32_t device) noexcept nogil
    ctypedef void (*ft_deallocate_callback)(void *user_data, void *data, size_t bytes, int32_t device) noexcept nogil

    ctypedef struct ft_model_options:
        size_t struct_size
        const char *device
        const char *dtype
        int32_t tensor_parallel
        int32_t pipeline_parallel
        int32_t num_threads
        ft_progress_callback progress
        void *user_data
        void *stream
        ft_allocate_callback allocate
        ft_deallocate_callback deallocate
        void *allocator_data

    ctypedef struct ft_rank_info:
        size_t struct_size
        const char *device
        int32_t tensor_rank
        int32_t pipeline_stage
        int64_t first_layer
        int64_t num_layers
        int64_t num_kv_heads
        uint64_t weight_bytes
        const char *transport

    ft_status ft_model_rank_count(size_t *count, const ft_model *model)
    ft_status ft_model_rank_info(ft_rank_info *out, const ft_model *model, size_t rank)
    ft_status ft_model_open(ft_model **out, const char *source, const ft_model_options *options)
    void ft_model_close(ft_model *model)
    ft_status ft_model_config_int(int64_t *out, const ft_model *model, const char *key)
    ft_status ft_model_config_float(double *out, const ft_model *model, const char *key)
    ft_status ft_model_config_string(const char **out, const ft_model *model, const char *key)
    ft_status ft_model_config(const char **out, const ft_model *model)
    ft_status ft_model_checkpoint(const ft_checkpoint **out, const ft_model *model)
    ft_status ft_model_placement(const char **device, const char **dtype, uint64_t *weight_bytes,
                                 const ft_model *model)
    ctypedef void (*ft_tune_callback)(const char *product, double before, double after, void *user_data) noexcept nogil
    ft_status ft_model_tune(ft_model *model, const int64_t *token_counts, size_t num_counts, ft_tune_callback report,
                            void *user_data) nogil
    ft_status ft_model_tuning(const char **path, const char **problem, const ft_model *model) nogil


cdef extern from "ft/convert.h" nogil:
    ctypedef struct ft_convert_options:
        size_t struct_size
        const char *dtype
        int32_t tensor_parallel
        int32_t pipeline_parallel
        int32_t overwrite
        const char *const *file_names
        const char *const *file_contents
        int32_t num_files
        ft_progress_callback progress
        void *user_data

    ft_status ft_convert(const char *source, const char *destination, const ft_convert_options *options)


cdef extern from "ft/forward.h" nogil:
    ctypedef struct ft_forward_inputs:
        size_t struct_size
        const ft_tensor *input_ids
        const ft_tensor *attention_mask
        const ft_tensor *token_type_ids
        const ft_tensor *row_offsets
        const ft_tensor *decoder_input_ids
        const ft_tensor *decoder_attention_mask
        const ft_tensor *decoder_row_offsets
        const ft_tensor *inputs_embeds
        const ft_tensor *decoder_inputs_embeds

    uint32_t FT_OUTPUT_LAST_HIDDEN_STATE
    uint32_t FT_OUTPUT_POOLER
    uint32_t FT_OUTPUT_LOGITS
    uint32_t FT_OUTPUT_EMBEDDING
    uint32_t FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE

    ctypedef enum ft_pooling:
        FT_POOLING_AUTO
        FT_POOLING_MEAN
        FT_POOLING_CLS
        FT_POOLING_LAST
        FT_POOLING_MAX

    ctypedef struct ft_forward_options:
        size_t struct_size
        uint32_t outputs
        ft_pooling pooling
        int32_t normalize
        const char *output_device

    ctypedef struct ft_forward_outputs:
        size_t struct_size
        ft_tensor *last_hidden_state
        ft_tensor *pooler_output
        ft_tensor *logits
        ft_tensor *embedding
        ft_tensor *encoder_last_hidden_state

    ft_status ft_forward(ft_forward_outputs *out, ft_model *model, const ft_forward_inputs *inputs,
                         const ft_forward_options *options)


cdef extern from "ft/generate.h" nogil:
    ctypedef struct ft_session:
        pass

    ctypedef struct ft_request:
        pass

    ctypedef struct ft_session_options:
        size_t struct_size
        int32_t max_batch_size
        int32_t max_tokens_per_step
        int64_t kv_cache_bytes
        int32_t prefix_cache
        int64_t prefix_cache_bytes

    ft_status ft_session_create(ft_session **out, ft_model *model, const ft_session_options *options)
    void ft_session_destroy(ft_session *session)

    int FT_CONTINUE
    int FT_STOP

    ctypedef int (*ft_stop_callback)(ft_request *request, const int32_t *tokens, size_t num_tokens,
                                     size_t prompt_length, void *user_data) noexcept nogil

    ctypedef int (*ft_logits_callback)(ft_request *request, const int32_t *tokens, size_t num_tokens,
                                       size_t prompt_length, const ft_dl_tensor *logits, void *user_data) noexcept nogil

    ctypedef enum ft_early_stopping:
        FT_EARLY_STOPPING_NO
        FT_EARLY_STOPPING_YES
        FT_EARLY_STOPPING_NEVER

    ctypedef enum ft_logprobs:
        FT_LOGPROBS_NONE
        FT_LOGPROBS_RAW
        FT_LOGPROBS_PROCESSED

    # Its arrays and callbacks; _session.pyx has a table of its numbers.
    ctypedef struct ft_generate_options:
        const int32_t *stop_token_ids
        int32_t num_stop_token_ids
        const int32_t *bad_words
        const int32_t *bad_word_lengths
        int32_t num_bad_words
        ft_stop_callback should_stop
        const int32_t *decoder_input_ids
        int32_t num_decoder_input_ids
        int32_t num_prompt_embeddings
        const int32_t *prompt_embedding_positions
        const float *prompt_embeddings
        const float *prefix_key_values
        int64_t prefix_length
        ft_logits_callback constrain_logits

    ctypedef int (*ft_token_callback)(ft_request *request, int32_t token, void *user_data) noexcept nogil
    ft_status ft_session_submit(ft_request **out, ft_session *session, const int32_t *prompt, size_t prompt_length,
                                const ft_generate_options *options, ft_token_callback on_token,
                                ft_logits_callback on_logits, void *user_data)
    ft_status ft_session_check(ft_session *session, const int32_t *prompt, size_t prompt_length,
                               const ft_generate_options *options)
    ft_status ft_session_step(size_t *active, ft_session *session)

    ctypedef struct ft_session_stats:
        size_t struct_size
        uint64_t steps
        uint64_t prompt_tokens
        uint64_t generated_tokens
        int64_t pages_in_use
        int64_t pages_total
        int64_t page_tokens
        uint64_t page_bytes
        uint64_t allocations
        uint64_t pages_copied
        uint64_t prompt_tokens_reused
        int64_t pages_kept
        uint64_t steps_ahead
        uint64_t steps_replayed

    ft_status ft_session_get_stats(ft_session_stats *out, const ft_session *session)

    ctypedef enum ft_finish_reason:
        FT_FINISH_NONE
        FT_FINISH_STOP
        FT_FINISH_LENGTH
        FT_FINISH_CANCELLED
        FT_FINISH_ERROR

    ft_status ft_request_wait(ft_request *request)
    ft_status ft_request_poll(ft_finish_reason *out, const ft_request *request)
    ft_status ft_request_cancel(ft_request *request)
    ctypedef struct ft_sequence:
        size_t struct_size
        size_t num_tokens
        float score
        ft_finish_reason finish_reason

    ft_status ft_request_num_sequences(size_t *out, const ft_request *request)
    ft_status ft_request_get_sequence(ft_sequence *out, int32_t *tokens, float *logprobs, size_t capacity, size_t index,
                                      const ft_request *request)
    ft_status ft_request_tokens(size_t *count, int32_t *tokens, float *logprobs, size_t capacity,
                                const ft_request *request)
    ft_status ft_request_tokens_from(size_t *count, int32_t *tokens, float *logprobs, size_t capacity, size_t first,
                                     const ft_request *request)
    ft_status ft_request_prompt_logprobs(size_t *count, float *logprobs, size_t capacity, const ft_request *request)
    const char *ft_request_error(const ft_request *request)
    void ft_request_release(ft_request *request)


# The _INIT macros are brace initialisers, which Cython cannot spell: these return them as values.
cdef extern from *:
    """
    #include <ft/ft.h>
    #define PYFT_INIT(type, macro) \\
        static inline type pyft_init_##type(void) { type value = macro; return value; }
    PYFT_INIT(ft_device_info, FT_DEVICE_INFO_INIT)
    PYFT_INIT(ft_tensor_info, FT_TENSOR_INFO_INIT)
    PYFT_INIT(ft_model_options, FT_MODEL_OPTIONS_INIT)
    PYFT_INIT(ft_rank_info, FT_RANK_INFO_INIT)
    PYFT_INIT(ft_convert_options, FT_CONVERT_OPTIONS_INIT)
    PYFT_INIT(ft_forward_inputs, FT_FORWARD_INPUTS_INIT)
    PYFT_INIT(ft_forward_options, FT_FORWARD_OPTIONS_INIT)
    PYFT_INIT(ft_forward_outputs, FT_FORWARD_OUTPUTS_INIT)
    PYFT_INIT(ft_session_options, FT_SESSION_OPTIONS_INIT)
    PYFT_INIT(ft_generate_options, FT_GENERATE_OPTIONS_INIT)
    PYFT_INIT(ft_session_stats, FT_SESSION_STATS_INIT)
    PYFT_INIT(ft_sequence, FT_SEQUENCE_INIT)
    #undef PYFT_INIT
    """
    ft_device_info pyft_init_ft_device_info() nogil
    ft_tensor_info pyft_init_ft_tensor_info() nogil
    ft_model_options pyft_init_ft_model_options() nogil
    ft_rank_info pyft_init_ft_rank_info() nogil
    ft_convert_options pyft_init_ft_convert_options() nogil
    ft_forward_inputs pyft_init_ft_forward_inputs() nogil
    ft_forward_options pyft_init_ft_forward_options() nogil
    ft_forward_outputs pyft_init_ft_forward_outputs() nogil
    ft_session_options pyft_init_ft_session_options() nogil
    ft_generate_options pyft_init_ft_generate_options() nogil
    ft_session_stats pyft_init_ft_session_stats() nogil
    ft_sequence pyft_init_ft_sequence() nogil
