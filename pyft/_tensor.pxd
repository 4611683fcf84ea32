from pyft cimport _ft as ft


cdef class Tensor:
    cdef ft.ft_tensor *handle
    cdef ft.ft_dl_tensor view
    cdef Py_ssize_t *byte_strides
    cdef readonly bint readonly

    cdef bint contiguous(self, bint fortran)
    cdef char *first(self)


# Tells whether memory that was lent out is still held by someone.
cdef class Loan:
    cdef bint ended


# A Tensor over memory that its owner lends for a while; `loan` ends when nothing views it any more.
cdef Tensor lend(const ft.ft_dl_tensor *view, Loan loan)

# Takes over the caller's reference to `handle`; drops it when this raises.
cdef Tensor adopt(ft.ft_tensor *handle, bint readonly)
