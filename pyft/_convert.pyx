# cython: language_level=3
"""Writing a checkpoint as a folder of libft's own."""
import os

from libc.stdlib cimport free, malloc

from pyft cimport _ft as ft
from pyft._model cimport Progress, on_progress
from pyft._status cimport check


def convert(source, destination, str dtype not None, int tensor_parallel, int pipeline_parallel, bint overwrite,
            dict files not None, progress):
    """Runs ft_convert. `files`: the texts to be written beside the weights, bytes by bytes name."""
    from_path = os.fsencode(source)
    to_path = os.fsencode(destination)
    dtype_name = dtype.encode()
    names = list(files)
    contents = list(files.values())
    cdef Progress state = Progress()
    state.function = progress
    cdef ft.ft_convert_options options = ft.pyft_init_ft_convert_options()
    cdef const char **texts = <const char **>malloc(2 * (len(names) + 1) * sizeof(char *))
    if texts == NULL:
        raise MemoryError
    cdef const char *c_from = from_path
    cdef const char *c_to = to_path
    cdef ft.ft_status status
    try:
        for index in range(len(names)):
            texts[index] = <bytes>names[index]
            texts[len(names) + index] = <bytes>contents[index]
        options.dtype = dtype_name
        options.tensor_parallel = tensor_parallel
        options.pipeline_parallel = pipeline_parallel
        options.overwrite = overwrite
        options.file_names = texts
        options.file_contents = texts + len(names)
        options.num_files = len(names)
        options.progress = on_progress
        options.user_data = <void *>state
        with nogil:
            status = ft.ft_convert(c_from, c_to, &options)
    finally:
        free(texts)
    if state.error is not None:
        raise state.error
    check(status)
