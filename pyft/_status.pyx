# cython: language_level=3
"""From C status codes to Python exceptions, and the questions that need no handle: version and devices."""
from pyft cimport _ft as ft

from pyft.errors import CancelledError, CheckpointError, Error, OutOfMemoryError, ParallelError, UnsupportedError


cdef object make_error(ft.ft_status status, object message):
    """The exception, not raised, for a failed status."""
    if status == ft.FT_ERROR_INVALID_ARGUMENT:
        return ValueError(message)
    if status == ft.FT_ERROR_OUT_OF_MEMORY:
        return OutOfMemoryError(message)
    if status == ft.FT_ERROR_CHECKPOINT:
        return CheckpointError(message)
    if status == ft.FT_ERROR_UNSUPPORTED:
        return UnsupportedError(message)
    if status == ft.FT_ERROR_CANCELLED:
        return CancelledError(message)
    if status == ft.FT_ERROR_PARALLEL:
        return ParallelError(message)
    if status == ft.FT_ERROR_NOT_FOUND:
        return KeyError(message)
    return Error(message)


cdef int check(ft.ft_status status) except -1:
    """Raises the exception of a failed status, with the calling thread's message."""
    if status == ft.FT_OK:
        return 0
    message = ft.ft_last_error().decode("utf-8", "replace")
    raise make_error(status, message or ft.ft_status_name(status).decode())


def version():
    """The version of the libft in use, "major.minor.patch"."""
    return ft.ft_version().decode()


def gpu_problem():
    """Why there is no GPU among the devices, or None."""
    cdef const char *why = NULL
    check(ft.ft_device_problem(&why))
    return why.decode("utf-8", "replace") if why != NULL else None


def devices():
    """One dict per device: name, description, capabilities, memory_bytes, num_threads."""
    cdef size_t count = 0
    cdef ft.ft_device_info info
    check(ft.ft_device_count(&count))
    found = []
    for index in range(count):
        info = ft.pyft_init_ft_device_info()
        check(ft.ft_device_get(&info, index))
        found.append({
            "name": info.name.decode("utf-8", "replace"),
            "description": info.description.decode("utf-8", "replace"),
            "capabilities": tuple(info.capabilities.decode("utf-8", "replace").split()),
            "memory_bytes": info.memory_bytes,
            "num_threads": info.num_threads,
        })
    return found
