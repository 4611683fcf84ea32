# cython: language_level=3
"""Sessions and requests: the running batch, driven by whichever thread waits for it.

The C library steps on the thread that asks it to. Here one waiting thread at a time drives: it runs a step without
the GIL, looks for signals, and wakes the other waiters, who take over when it leaves. So Ctrl-C is seen between any
two steps, whatever thread is computing, and no thread of our own exists.

Callbacks carry a number, not a pointer: a request that is gone is simply not found, so nothing can dangle.
"""
import gc
import itertools
import math
import os
import threading

import numpy as np

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from pyft cimport _ft as ft
from pyft._model cimport ModelHandle
from pyft._status cimport check, make_error
from pyft._tensor cimport Loan, lend

from pyft.errors import Error

cdef extern from *:
    """
    #include <stddef.h>
    #include <ft/generate.h>

    /* The options that are one number each: where and as what they lie in ft_generate_options. */
    typedef struct {
        const char *name;
        size_t offset;
        char kind;
    } pyft_number;
    #define FT_OPTION(type, name, ...) \\
        {#name, offsetof(ft_generate_options, name), \\
         _Generic(((ft_generate_options *)0)->name, int32_t: 'i', uint64_t: 'u', float: 'f')},
    static const pyft_number pyft_numbers[] = {
    #include "decode/option_list.inc"
    };
    enum { pyft_count_of_numbers = sizeof pyft_numbers / sizeof *pyft_numbers };
    """
    ctypedef struct pyft_number:
        const char *name
        size_t offset
        char kind
    const pyft_number *pyft_numbers
    int pyft_count_of_numbers

NUMBERS = tuple([pyft_numbers[i].name.decode() for i in range(pyft_count_of_numbers)])

cdef dict FINISH = {
    ft.FT_FINISH_NONE: None,
    ft.FT_FINISH_STOP: "stop",
    ft.FT_FINISH_LENGTH: "length",
    ft.FT_FINISH_CANCELLED: "cancelled",
    ft.FT_FINISH_ERROR: "error",
}


cdef class Listener:
    """The Python functions of a request's callbacks, and what one of them raised."""
    cdef object stop_function
    cdef size_t stop_window
    cdef object constraint
    cdef object logits_function
    cdef object error

    cdef int steer(self, function, const int32_t *tokens, size_t num_tokens, const ft.ft_dl_tensor *view) except -1:
        """Hands the function the token ids, which it may keep, and the logits in the library's own memory."""
        ids = np.empty(num_tokens, dtype=np.int32)
        cdef int32_t[::1] id_view = ids
        memcpy(&id_view[0], tokens, num_tokens * sizeof(int32_t))
        cdef Loan loan = Loan()
        logits = lend(view, loan).numpy()
        returned = function(ids, logits)
        if returned is not None and returned is not logits:
            replaced = np.asarray(returned, dtype=np.float32)
            if replaced.shape != logits.shape:
                raise ValueError(f"logits_processor returned shape {replaced.shape}; {logits.shape} is meant")
            logits[:] = replaced
        logits = returned = replaced = None
        if not loan.ended:
            gc.collect()  # a cycle may hold them
        if not loan.ended:
            raise Error("logits_processor kept the logits, whose memory is the library's again: keep logits.copy()")
        return 0


# Callback number -> Listener, for requests that still exist.
cdef dict live = {}
cdef object numbers = itertools.count(1)


cdef int should_stop(ft.ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                     void *user_data) noexcept with gil:
    cdef Listener listener = live.get(<size_t>user_data)
    if listener is None:
        return -1
    try:
        first = num_tokens - min(num_tokens, listener.stop_window)
        last = [tokens[i] for i in range(first, num_tokens) if tokens[i] >= 0]
        return ft.FT_STOP if listener.stop_function(last) else ft.FT_CONTINUE
    except BaseException as error:
        listener.error = error
        return -1


cdef int constrain_logits(ft.ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                          const ft.ft_dl_tensor *logits, void *user_data) noexcept with gil:
    cdef Listener listener = live.get(<size_t>user_data)
    return -1 if listener is None else steer(listener, listener.constraint, tokens, num_tokens, logits)


cdef int on_logits(ft.ft_request *request, const int32_t *tokens, size_t num_tokens, size_t prompt_length,
                   const ft.ft_dl_tensor *logits, void *user_data) noexcept with gil:
    cdef Listener listener = live.get(<size_t>user_data)
    return -1 if listener is None else steer(listener, listener.logits_function, tokens, num_tokens, logits)


cdef int steer(Listener listener, function, const int32_t *tokens, size_t num_tokens,
               const ft.ft_dl_tensor *logits) noexcept:
    try:
        listener.steer(function, tokens, num_tokens, logits)
        return ft.FT_CONTINUE
    except BaseException as error:
        listener.error = error
        return -1


cdef class Session:
    """ft_session over one model."""
    cdef ft.ft_session *handle
    cdef ModelHandle model
    cdef object changed
    cdef object driver  # the driving thread's identifier, or None
    cdef object process

    def __cinit__(self, ModelHandle model not None, int max_batch_size=0, int max_tokens_per_step=0,
                  int64_t kv_cache_bytes=0, bint prefix_cache=True, int64_t prefix_cache_bytes=0):
        cdef ft.ft_session_options options = ft.pyft_init_ft_session_options()
        options.max_batch_size = max_batch_size
        options.max_tokens_per_step = max_tokens_per_step
        options.kv_cache_bytes = kv_cache_bytes
        options.prefix_cache = prefix_cache
        options.prefix_cache_bytes = prefix_cache_bytes
        cdef ft.ft_session *handle = NULL
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_session_create(&handle, model.handle, &options)
        check(status)
        self.handle = handle
        self.model = model
        self.changed = threading.Condition()
        self.driver = None
        self.process = os.getpid()

    def __dealloc__(self):
        if self.handle != NULL:
            with nogil:
                ft.ft_session_destroy(self.handle)

    def submit(self, prompt, dict options, stop_function=None, size_t stop_window=0, logits_function=None,
               constraint=None):
        """Queues int32 token ids. Returns a Request. options are ft_generate_options' numbers (NUMBERS), where they differ
        from its defaults, and the arrays that fill_arrays takes.

        stop_function(tokens) gets the last stop_window tokens and says whether a sequence ends there;
        logits_function(tokens, logits) changes logits, and constraint, likewise, those that forced tokens overrule.
        """
        cdef Request request = Request.__new__(Request)
        request.session = self
        request.listener = Listener()
        request.listener.stop_function = stop_function
        request.listener.stop_window = stop_window
        request.listener.constraint = constraint
        request.listener.logits_function = logits_function
        request.number = next(numbers)
        request.keeps_logprobs = options.get("logprobs", 0) != 0
        request.keeps_prompt_logprobs = options.get("prompt_logprobs", False)
        cdef const int32_t[::1] ids = np.ascontiguousarray(prompt, dtype=np.int32)
        cdef const int32_t *first = &ids[0] if ids.shape[0] else NULL
        cdef size_t length = ids.shape[0]
        cdef list keep = []
        cdef ft.ft_generate_options settings = to_struct(options, keep)
        cdef ft.ft_logits_callback logits_callback = NULL
        if stop_function is not None:
            settings.should_stop = should_stop
        if constraint is not None:
            settings.constrain_logits = constrain_logits
        if logits_function is not None:
            logits_callback = on_logits
        live[request.number] = request.listener
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_session_submit(&request.handle, self.handle, first, length, &settings, NULL, logits_callback,
                                          <void *>request.number)
        check(status)
        return request

    def check(self, prompt, dict options):
        """Raises what submit would of these token ids and options; queues nothing."""
        cdef const int32_t[::1] ids = np.ascontiguousarray(prompt, dtype=np.int32)
        cdef list keep = []
        cdef ft.ft_generate_options settings = to_struct(options, keep)
        check(ft.ft_session_check(self.handle, &ids[0] if ids.shape[0] else NULL, ids.shape[0], &settings))

    def wait(self, done):
        """Drives the batch, or waits for the thread that does, until done() is true.

        Raises what a signal handler raised (KeyboardInterrupt), between two steps.
        """
        if os.getpid() != self.process:
            raise Error("the model was loaded before fork() and cannot compute in the child; load it after the fork")
        me = threading.get_ident()
        if self.driver == me:
            raise Error("generation cannot be waited for inside a callback of the same model's generation")
        cdef bint mine = False
        while not done():
            try:
                with self.changed:
                    if self.driver is not None:
                        # Woken after every step. An interrupt may cost a leaving driver its last wake-up call,
                        # hence the bound.
                        self.changed.wait(1.0)
                        continue
                    self.driver = me
                    mine = True
                while not done():
                    self.step()
                    PyErr_CheckSignals()
                    with self.changed:
                        self.changed.notify_all()
            finally:
                if mine:
                    self.driver = None
                    mine = False
                    with self.changed:
                        self.changed.notify_all()

    def sweep(self):
        """Lets cancelled requests give their pages back, unless a thread drives and does so anyway."""
        if os.getpid() != self.process:
            return
        with self.changed:
            if self.driver is not None:
                return
            self.driver = threading.get_ident()
        try:
            self.step()
        finally:
            self.driver = None
            with self.changed:
                self.changed.notify_all()

    cdef int step(self) except -1:
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_session_step(NULL, self.handle)
        check(status)
        return 0

    def stats(self):
        """ft_session_stats as a dict."""
        cdef ft.ft_session_stats stats = ft.pyft_init_ft_session_stats()
        check(ft.ft_session_get_stats(&stats, self.handle))
        result = dict(stats)
        del result["struct_size"]
        return result


cdef class Request:
    """ft_request. Dropping the last reference cancels what still runs."""
    cdef ft.ft_request *handle
    cdef Session session
    cdef Listener listener
    cdef size_t number
    cdef bint keeps_logprobs
    cdef bint keeps_prompt_logprobs

    def __init__(self):
        raise TypeError("a Request comes from Session.submit")

    def __dealloc__(self):
        live.pop(self.number, None)
        if self.handle != NULL:
            with nogil:
                ft.ft_request_release(self.handle)

    def finish_reason(self):
        """None while it runs, then "stop", "length", "cancelled" or "error". Never blocks."""
        cdef ft.ft_finish_reason reason = ft.FT_FINISH_NONE
        check(ft.ft_request_poll(&reason, self.handle))
        return FINISH[reason]

    def results(self):
        """[(tokens, log-probabilities, score, finish reason)] of a finished request's sequences, best first for beams.

        tokens are numpy int32; log-probabilities numpy float32, or None where they were not asked for; the score is
        None where it is not known. Raises what a callback raised, or what made the request fail.
        """
        if self.listener.error is not None:
            raise self.listener.error
        if self.finish_reason() == "error":
            raise self.failure()
        cdef size_t count = 0
        check(ft.ft_request_num_sequences(&count, self.handle))
        return [self.sequence(index) for index in range(count)]

    cdef tuple sequence(self, size_t index):
        cdef ft.ft_sequence info = ft.pyft_init_ft_sequence()
        check(ft.ft_request_get_sequence(&info, NULL, NULL, 0, index, self.handle))
        tokens = np.empty(info.num_tokens, dtype=np.int32)
        logprobs = np.empty(info.num_tokens, dtype=np.float32) if self.keeps_logprobs else None
        cdef int32_t[::1] ids = tokens
        cdef float[::1] values = logprobs
        if info.num_tokens:
            check(ft.ft_request_get_sequence(&info, &ids[0], NULL if logprobs is None else &values[0], tokens.size,
                                             index, self.handle))
        score = None if math.isnan(info.score) else info.score
        return tokens, logprobs, score, FINISH[info.finish_reason]

    def prompt_logprobs(self):
        """numpy float32 [prompt_length]; None where they were not asked for."""
        if not self.keeps_prompt_logprobs:
            return None
        cdef size_t count = 0
        check(ft.ft_request_prompt_logprobs(&count, NULL, 0, self.handle))
        found = np.empty(count, dtype=np.float32)
        cdef float[::1] values = found
        check(ft.ft_request_prompt_logprobs(NULL, &values[0], count, self.handle))
        return found

    cdef object failure(self):
        # The request is finished: this returns its status at once.
        cdef ft.ft_status status = ft.ft_request_wait(self.handle)
        return make_error(status, ft.ft_request_error(self.handle).decode("utf-8", "replace"))

    def count(self):
        """How many new tokens the first sequence has so far."""
        cdef size_t count = 0
        check(ft.ft_request_tokens(&count, NULL, NULL, 0, self.handle))
        return count

    def tokens(self, size_t first=0):
        """The first sequence's new tokens so far, from the one numbered `first` on, numpy int32; with beams, those that
        are settled."""
        cdef size_t count = self.count()
        tokens = np.empty(count - min(count, first), dtype=np.int32)
        cdef int32_t[::1] target = tokens
        if tokens.size:
            check(ft.ft_request_tokens_from(NULL, &target[0], NULL, tokens.size, first, self.handle))
        return tokens

    def cancel(self):
        """Asks it to end; it does between layers or steps."""
        check(ft.ft_request_cancel(self.handle))


cdef ft.ft_generate_options to_struct(dict options, list keep) except *:
    """`keep` gets what must stay alive while the struct is in use."""
    cdef ft.ft_generate_options settings = ft.pyft_init_ft_generate_options()
    cdef char *field
    for i in range(pyft_count_of_numbers):
        value = options.get(NUMBERS[i])
        if value is None:
            continue
        field = <char *>&settings + pyft_numbers[i].offset
        if pyft_numbers[i].kind == b'f':
            (<float *>field)[0] = value
        elif pyft_numbers[i].kind == b'u':
            (<uint64_t *>field)[0] = value
        else:
            (<int32_t *>field)[0] = value
    fill_arrays(&settings, options, keep)
    return settings


cdef int fill_arrays(ft.ft_generate_options *settings, dict options, list keep) except -1:
    cdef const float[::1] values
    cdef const int32_t[::1] view
    if options.get("embedding_positions") is not None:
        view = keep_ids(keep, options["embedding_positions"])
        settings.prompt_embedding_positions = &view[0]
        settings.num_prompt_embeddings = len(options["embedding_positions"])
        values = keep_floats(keep, options["embeddings"])
        settings.prompt_embeddings = &values[0]
    if options.get("past_key_values") is not None:
        settings.prefix_length = options["past_key_values"].shape[3]
        values = keep_floats(keep, options["past_key_values"])
        settings.prefix_key_values = &values[0]
    start = options.get("decoder_input_ids")
    if start is not None:
        view = keep_ids(keep, start)
        settings.decoder_input_ids = &view[0]
        settings.num_decoder_input_ids = len(start)
    stop = options.get("stop_token_ids")
    if stop is None:
        settings.num_stop_token_ids = -1
    else:
        view = keep_ids(keep, stop)
        settings.stop_token_ids = &view[0]
        settings.num_stop_token_ids = len(stop)
    words = options.get("bad_words")
    if words:
        view = keep_ids(keep, [token for word in words for token in word])
        settings.bad_words = &view[0]
        view = keep_ids(keep, [len(word) for word in words])
        settings.bad_word_lengths = &view[0]
        settings.num_bad_words = len(words)
    return 0


cdef object keep_floats(list keep, values):
    """The elements as float32, never none of them so that their address can be taken."""
    array = np.zeros(max(1, values.size), dtype=np.float32)
    array[:values.size] = values.reshape(-1)
    keep.append(array)
    return array


cdef object keep_ids(list keep, values):
    """An int32 array, never of no elements so that its address can be taken."""
    array = np.zeros(max(1, len(values)), dtype=np.int32)
    array[:len(values)] = values
    keep.append(array)
    return array
