from pyft cimport _ft as ft


cdef class ModelHandle:
    cdef ft.ft_model *handle
