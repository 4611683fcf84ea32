from libc.stdint cimport uint64_t

from pyft cimport _ft as ft


cdef class ModelHandle:
    cdef ft.ft_model *handle
    cdef object allocator


cdef class Progress:
    cdef object function
    cdef object error


cdef int on_progress(uint64_t done, uint64_t total, void *user_data) noexcept with gil
