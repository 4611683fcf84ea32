from pyft cimport _ft as ft


cdef class Checkpoint:
    cdef ft.ft_checkpoint *owned
    cdef const ft.ft_checkpoint *handle
    cdef object keeper

    cdef const ft.ft_checkpoint *need(self) except NULL


# The checkpoint behind something that keeps it alive.
cdef Checkpoint borrow(const ft.ft_checkpoint *handle, object keeper)
