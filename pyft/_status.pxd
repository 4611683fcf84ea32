from pyft cimport _ft as ft


cdef int check(ft.ft_status status) except -1
cdef object make_error(ft.ft_status status, object message)
