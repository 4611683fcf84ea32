from pyft cimport _ft as ft


cdef class Tensor:
    cdef ft.ft_tensor *handle
    cdef ft.ft_dl_tensor view
    cdef Py_ssize_t *byte_strides
    cdef readonly bint readonly

    cdef bint contiguous(self, bint fortran)
    cdef char *first(self)


# Takes over the caller's reference to `handle`; drops it when this raises.
cdef Tensor adopt(ft.ft_tensor *handle, bint readonly)
