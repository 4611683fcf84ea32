# cython: language_level=3
"""A loaded model's handle: opening with progress, its facts, and the forward pass."""
import array
import json
import os

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from pyft cimport _ft as ft
from pyft._checkpoint cimport borrow
from pyft._status cimport check
from pyft._tensor cimport Tensor, adopt

cdef dict POOLING = {
    "auto": ft.FT_POOLING_AUTO,
    "mean": ft.FT_POOLING_MEAN,
    "cls": ft.FT_POOLING_CLS,
    "last": ft.FT_POOLING_LAST,
    "max": ft.FT_POOLING_MAX,
}

cdef dict OUTPUTS = {
    "last_hidden_state": ft.FT_OUTPUT_LAST_HIDDEN_STATE,
    "pooler_output": ft.FT_OUTPUT_POOLER,
    "logits": ft.FT_OUTPUT_LOGITS,
    "embedding": ft.FT_OUTPUT_EMBEDDING,
    "encoder_last_hidden_state": ft.FT_OUTPUT_ENCODER_LAST_HIDDEN_STATE,
}


cdef class Progress:
    """What a progress callback needs: the caller's function, and the exception that stopped it."""


cdef int on_progress(uint64_t done, uint64_t total, void *user_data) noexcept with gil:
    cdef Progress progress = <Progress>user_data
    try:
        PyErr_CheckSignals()
        if progress.function is not None:
            return 1 if progress.function(done, total) else 0
        return 0
    except BaseException as error:
        progress.error = error
        return 1


cdef void on_tuned(const char *product, double before, double after, void *user_data) noexcept with gil:
    (<list>user_data).append((product.decode(), before, after))


# A Python allocator's two functions. Memory may be given back long after the model has gone, so each piece of it keeps
# the allocator.

cdef void *allocate(void *user_data, size_t size, int32_t device) noexcept with gil:
    allocator = <object>user_data
    cdef size_t address
    try:
        address = allocator.allocate(size, device) or 0
    except Exception:  # there is no memory, for whatever reason: the call that wanted it says so
        return NULL
    if address:
        Py_INCREF(allocator)
    return <void *>address


cdef void deallocate(void *user_data, void *data, size_t size, int32_t device) noexcept with gil:
    allocator = <object>user_data
    try:
        allocator.deallocate(<size_t>data, size, device)
    finally:
        Py_DECREF(allocator)


cdef class ModelHandle:
    """ft_model. Freed when the last Python reference goes."""

    def __cinit__(
        self, source, device, dtype, int tensor_parallel, int pipeline_parallel, int threads, progress, stream=0,
        allocator=None
    ):
        path = os.fsencode(source)
        device_name = device.encode()
        dtype_name = dtype.encode()
        cdef Progress state = Progress()
        state.function = progress
        cdef ft.ft_model_options options = ft.pyft_init_ft_model_options()
        options.device = device_name
        options.dtype = dtype_name
        options.tensor_parallel = tensor_parallel
        options.pipeline_parallel = pipeline_parallel
        options.num_threads = threads
        options.progress = on_progress
        options.user_data = <void *>state
        options.stream = <void *><size_t>stream
        if allocator is not None:
            self.allocator = allocator
            options.allocate = allocate
            options.deallocate = deallocate
            options.allocator_data = <void *>allocator
        cdef const char *c_path = path
        cdef ft.ft_model *handle = NULL
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_model_open(&handle, c_path, &options)
        if state.error is not None:
            if status == ft.FT_OK:
                ft.ft_model_close(handle)
            raise state.error
        check(status)
        self.handle = handle

    def __dealloc__(self):
        if self.handle != NULL:
            with nogil:
                ft.ft_model_close(self.handle)

    def config(self):
        cdef const char *out = NULL
        check(ft.ft_model_config(&out, self.handle))
        return json.loads(out.decode("utf-8", "replace"))

    def checkpoint(self):
        """The checkpoint behind the model; keeps the model."""
        cdef const ft.ft_checkpoint *out = NULL
        check(ft.ft_model_checkpoint(&out, self.handle))
        return borrow(out, self)

    def tune(self, token_counts):
        """[(product, microseconds before, after)]"""
        cdef int64_t[::1] counts = array.array("q", token_counts)
        cdef list found = []
        cdef const int64_t *first = &counts[0] if counts.shape[0] else <const int64_t *>NULL
        cdef size_t n = counts.shape[0]
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_model_tune(self.handle, first, n, on_tuned, <void *>found)
        check(status)
        return found

    def tuning(self):
        """(file of tuned algorithms, why it is ignored); empty where there is none, and where it is not."""
        cdef const char *path = NULL
        cdef const char *problem = NULL
        check(ft.ft_model_tuning(&path, &problem, self.handle))
        return os.fsdecode(path), problem.decode("utf-8", "replace")

    def placement(self):
        """(device, compute dtype, bytes of weights)."""
        cdef const char *device = NULL
        cdef const char *dtype = NULL
        cdef uint64_t weight_bytes = 0
        check(ft.ft_model_placement(&device, &dtype, &weight_bytes, self.handle))
        return device.decode(), dtype.decode(), weight_bytes

    def ranks(self):
        """[ft_rank_info as a tuple, but for its size]"""
        cdef size_t count = 0
        cdef ft.ft_rank_info info = ft.pyft_init_ft_rank_info()
        check(ft.ft_model_rank_count(&count, self.handle))
        found = []
        for rank in range(count):
            check(ft.ft_model_rank_info(&info, self.handle, rank))
            found.append((
                info.device.decode(), info.tensor_rank, info.pipeline_stage, info.first_layer, info.num_layers,
                info.num_kv_heads, info.weight_bytes, info.transport.decode(),
            ))
        return found

    def forward(self, dict tensors not None, outputs, str pooling, bint normalize, output_device="cpu"):
        """Runs ft_forward on {field of ft_forward_inputs: Tensor}; returns {name: Tensor} of what it computed."""
        cdef bytes device_name = output_device.encode()
        cdef ft.ft_forward_inputs inputs = ft.pyft_init_ft_forward_inputs()
        cdef ft.ft_forward_options options = ft.pyft_init_ft_forward_options()
        cdef ft.ft_forward_outputs out = ft.pyft_init_ft_forward_outputs()
        inputs.input_ids = handle_of(tensors, "input_ids")
        inputs.attention_mask = handle_of(tensors, "attention_mask")
        inputs.token_type_ids = handle_of(tensors, "token_type_ids")
        inputs.row_offsets = handle_of(tensors, "row_offsets")
        inputs.decoder_input_ids = handle_of(tensors, "decoder_input_ids")
        inputs.decoder_attention_mask = handle_of(tensors, "decoder_attention_mask")
        inputs.inputs_embeds = handle_of(tensors, "inputs_embeds")
        inputs.decoder_inputs_embeds = handle_of(tensors, "decoder_inputs_embeds")
        options.outputs = output_flags(outputs)
        if pooling not in POOLING:
            raise ValueError(f"pooling={pooling!r}; one of {', '.join(POOLING)} is meant")
        options.pooling = POOLING[pooling]
        options.normalize = normalize
        options.output_device = device_name
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_forward(&out, self.handle, &inputs, &options)
        check(status)
        # Each is adopted, or released, even when one of them raises.
        cdef ft.ft_tensor *made[5]
        made[0] = out.last_hidden_state
        made[1] = out.pooler_output
        made[2] = out.logits
        made[3] = out.embedding
        made[4] = out.encoder_last_hidden_state
        results = {}
        cdef int i = 0
        try:
            for name in ("last_hidden_state", "pooler_output", "logits", "embedding", "encoder_last_hidden_state"):
                i += 1
                if made[i - 1] != NULL:
                    results[name] = adopt(made[i - 1], False)
        except BaseException:
            while i < 5:
                ft.ft_tensor_release(made[i])
                i += 1
            raise
        return results


cdef const ft.ft_tensor *handle_of(dict tensors, str name) except? NULL:
    cdef Tensor tensor = tensors.get(name)
    return NULL if tensor is None else tensor.handle


cdef uint32_t output_flags(names) except? 0xffffffff:
    cdef uint32_t flags = 0
    for name in names:
        if name not in OUTPUTS:
            raise ValueError(f"no output {name!r}; the outputs are {', '.join(OUTPUTS)}")
        flags |= <uint32_t>OUTPUTS[name]
    return flags
