# cython: language_level=3
"""pyft.Tensor: a view of memory that numpy, PyTorch and every DLPack library read in place, and the way back.

Nothing here copies unless asked to, and what lies on a GPU stays there. Out: the buffer protocol (numpy), DLPack (versioned, and the legacy capsule for
consumers from before 1.0) and __cuda_array_interface__. In: DLPack, else the buffer protocol. Whoever holds a view
holds the memory: a Tensor may outlive its model, and an array made from a Tensor may outlive the Tensor.
"""
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_C_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_FULL_RO, PyBUF_ND, PyBUF_STRIDES,
    PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pyft cimport _ft as ft
from pyft._status cimport check

import numpy as np

# (DLPack type code, bits) -> our name and struct-module format; None where the buffer protocol has no such type.
cdef dict DTYPES = {
    (ft.FT_DTYPE_BOOL, 8): ("bool", b"?"),
    (ft.FT_DTYPE_INT, 8): ("int8", b"b"),
    (ft.FT_DTYPE_INT, 16): ("int16", b"h"),
    (ft.FT_DTYPE_INT, 32): ("int32", b"i"),
    (ft.FT_DTYPE_INT, 64): ("int64", b"q"),
    (ft.FT_DTYPE_UINT, 8): ("uint8", b"B"),
    (ft.FT_DTYPE_UINT, 16): ("uint16", b"H"),
    (ft.FT_DTYPE_UINT, 32): ("uint32", b"I"),
    (ft.FT_DTYPE_UINT, 64): ("uint64", b"Q"),
    (ft.FT_DTYPE_FLOAT, 16): ("float16", b"e"),
    (ft.FT_DTYPE_FLOAT, 32): ("float32", b"f"),
    (ft.FT_DTYPE_FLOAT, 64): ("float64", b"d"),
    (ft.FT_DTYPE_BFLOAT, 16): ("bfloat16", None),
}

cdef const char *VERSIONED = "dltensor_versioned"
cdef const char *VERSIONED_USED = "used_dltensor_versioned"
cdef const char *LEGACY = "dltensor"
cdef const char *LEGACY_USED = "used_dltensor"


# DLManagedTensor, from before DLPack 1.0.
cdef struct legacy_managed:
    ft.ft_dl_tensor dl_tensor
    void *manager_ctx
    void (*deleter)(legacy_managed *self) noexcept nogil


cdef class Tensor:
    """An n-dimensional array on a device, shared without copying: ``t.numpy()``, ``np.asarray(t)``,
    ``torch.from_dlpack(t)``. Made by pyft's own calls and by :func:`pyft.from_dlpack`.
    """

    def __init__(self):
        raise TypeError("a pyft.Tensor comes from a model or from pyft.from_dlpack(array)")

    def __dealloc__(self):
        free(self.byte_strides)
        if self.handle != NULL:
            with nogil:
                ft.ft_tensor_release(self.handle)

    @property
    def shape(self):
        """Sizes, outermost first."""
        return tuple([self.view.shape[i] for i in range(self.view.ndim)])

    @property
    def strides(self):
        """Distance between neighbours along each axis, in bytes as in numpy."""
        return tuple([self.byte_strides[i] for i in range(self.view.ndim)])

    @property
    def ndim(self):
        return self.view.ndim

    @property
    def size(self):
        """Number of elements."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total

    @property
    def nbytes(self):
        return self.size * (self.view.dtype.bits // 8)

    @property
    def dtype(self):
        """The element type's name: "float32", "int64", ..."""
        return type_of(self.view.dtype)[0]

    @property
    def device(self):
        """"cpu" or "cuda:<index>"."""
        if self.view.device.device_type == ft.FT_DEVICE_CUDA:
            return f"cuda:{self.view.device.device_id}"
        return "cpu"

    @property
    def data_ptr(self):
        """Address of the first element."""
        return <size_t>self.first()

    def numpy(self):
        """A numpy array over the same memory."""
        return self.__array__()

    def cpu(self):
        """The tensor itself where it lies in host memory, else a copy there."""
        if self.view.device.device_type != ft.FT_DEVICE_CUDA:
            return self
        cdef ft.ft_tensor *handle = NULL
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_tensor_to_host(&handle, self.handle)
        check(status)
        return adopt(handle, False)

    def tolist(self):
        return self.cpu().numpy().tolist()

    def __len__(self):
        if self.view.ndim == 0:
            raise TypeError("len() of a Tensor without dimensions")
        return self.view.shape[0]

    def __repr__(self):
        shape = ", ".join(map(str, self.shape))
        return f"pyft.Tensor(shape=[{shape}], dtype={self.dtype}, device={self.device})"

    def __reduce__(self):
        raise TypeError("a pyft.Tensor cannot be pickled; pickle t.numpy()")

    def __array__(self, dtype=None, copy=None):
        if self.view.device.device_type == ft.FT_DEVICE_CUDA:
            raise TypeError(f"the tensor lies on {self.device}; t.cpu() is a copy in host memory, and "
                            "torch.from_dlpack(t) or cupy can read it where it is")
        name, format = type_of(self.view.dtype)
        if format is None:
            raise TypeError(f"numpy has no {name}; read it with torch.from_dlpack(t)")
        array = np.asarray(memoryview(self))
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a {name} tensor cannot become {np.dtype(dtype)} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    @property
    def __cuda_array_interface__(self):
        if self.view.device.device_type != ft.FT_DEVICE_CUDA:
            raise AttributeError("__cuda_array_interface__: the tensor is not on a CUDA device")
        name, format = type_of(self.view.dtype)
        if format is None:
            raise AttributeError(f"__cuda_array_interface__ has no {name}; use torch.from_dlpack(t)")
        # Waited for here, since there are consumers that ignore the interface's "stream".
        wait_for(self, NULL)
        return {
            "version": 3,
            "shape": self.shape,
            "strides": None if self.contiguous(False) else self.strides,
            "typestr": np.dtype(name).str,
            "data": (self.data_ptr, self.readonly),
            "stream": None,
        }

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.view.device.device_type == ft.FT_DEVICE_CUDA:
            raise BufferError(f"the tensor lies on {self.device}, not in host memory")
        name, format = type_of(self.view.dtype)
        if format is None:
            raise BufferError(f"the buffer protocol has no {name}")
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("the tensor is read-only")
        cdef bint in_order = self.contiguous(False)
        if flags & PyBUF_C_CONTIGUOUS == PyBUF_C_CONTIGUOUS and not in_order:
            raise BufferError("the tensor is not C-contiguous")
        if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS and not self.contiguous(True):
            raise BufferError("the tensor is not Fortran-contiguous")
        if flags & PyBUF_ANY_CONTIGUOUS == PyBUF_ANY_CONTIGUOUS and not (in_order or self.contiguous(True)):
            raise BufferError("the tensor is not contiguous")
        if flags & PyBUF_STRIDES != PyBUF_STRIDES and not in_order:
            raise BufferError("the tensor is strided")
        buffer.buf = self.first()
        buffer.obj = self
        buffer.len = self.nbytes
        buffer.itemsize = self.view.dtype.bits // 8
        buffer.readonly = self.readonly
        buffer.ndim = self.view.ndim
        # DTYPES keeps the format alive.
        buffer.format = <char *><const char *>format if flags & PyBUF_FORMAT else NULL
        buffer.shape = <Py_ssize_t *>self.view.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.byte_strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __releasebuffer__(self, Py_buffer *buffer):
        pass

    def __dlpack_device__(self):
        return (self.view.device.device_type, self.view.device.device_id)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """A DLPack capsule: versioned for consumers that pass ``max_version`` of (1, 0) or above, else legacy.

        Of a tensor on a GPU: what the consumer queues on ``stream`` (1 and 2 are CUDA's legacy and per-thread default
        streams, None is the former) from now on finds it computed. With -1 nothing waits.
        """
        cdef bint on_gpu = self.view.device.device_type == ft.FT_DEVICE_CUDA
        if stream is not None and not on_gpu:
            raise ValueError("stream must be None for a tensor on the CPU")
        if on_gpu and stream is not None and (not isinstance(stream, int) or stream == 0 or stream < -1):
            raise ValueError(f"stream={stream!r} is no CUDA stream; 1 and 2 are the default ones, -1 is not to wait")
        if dl_device is not None and tuple(map(int, dl_device)) != self.__dlpack_device__():
            raise BufferError(f"cannot export a tensor on {self.device} to DLPack device {tuple(dl_device)}")
        cdef Tensor source = self.copy() if copy else self
        if on_gpu and stream != -1:
            wait_for(self, <void *><size_t>(1 if stream is None else stream))
        cdef ft.ft_dl_managed_tensor *managed = NULL
        check(ft.ft_tensor_to_dlpack(&managed, source.handle))
        if copy:
            managed.flags |= ft.FT_DL_FLAG_IS_COPIED
        if source.readonly:
            managed.flags |= ft.FT_DL_FLAG_READ_ONLY
        try:
            if max_version is not None and max_version[0] >= 1:
                return PyCapsule_New(managed, VERSIONED, drop_versioned)
            if source.readonly:
                raise BufferError("the tensor is read-only, which a consumer of DLPack before 1.0 cannot be told")
            return legacy_capsule(managed)
        except BaseException:
            managed.deleter(managed)
            raise

    def copy(self):
        """A C-contiguous copy in memory of its own."""
        if self.view.device.device_type == ft.FT_DEVICE_CUDA:
            raise BufferError(f"the tensor lies on {self.device}; t.cpu() is a copy in host memory")
        cdef ft.ft_tensor *handle = NULL
        check(ft.ft_tensor_create(&handle, self.view.dtype, self.view.ndim, self.view.shape))
        cdef Tensor made = adopt(handle, False)
        cdef char *target = made.first()
        if self.size:
            copy_axis(self, 0, self.first(), &target)
        return made

    cdef bint contiguous(self, bint fortran):
        """In memory order without gaps; axes of one element do not count."""
        cdef Py_ssize_t expected = self.view.dtype.bits // 8
        cdef int i, axis
        for i in range(self.view.ndim):
            if self.view.shape[i] == 0:
                return True
        for i in range(self.view.ndim):
            axis = i if fortran else self.view.ndim - 1 - i
            if self.view.shape[axis] != 1 and self.byte_strides[axis] != expected:
                return False
            expected *= self.view.shape[axis]
        return True

    cdef char *first(self):
        return <char *>self.view.data + self.view.byte_offset


cdef int wait_for(Tensor tensor, void *stream) except -1:
    """Makes a stream, or with NULL this thread, wait until the tensor has been computed."""
    cdef ft.ft_status status
    with nogil:
        status = ft.ft_tensor_wait(tensor.handle, stream)
    check(status)
    return 0


cdef type_of(ft.ft_dtype dtype):
    found = DTYPES.get((dtype.code, dtype.bits)) if dtype.lanes == 1 else None
    if found is None:
        raise TypeError(f"no element type of DLPack code {dtype.code} with {dtype.bits} bits and {dtype.lanes} lanes")
    return found


cdef Tensor adopt(ft.ft_tensor *handle, bint readonly):
    cdef Tensor tensor = Tensor.__new__(Tensor)
    tensor.handle = handle
    tensor.readonly = readonly
    check(ft.ft_tensor_view(&tensor.view, handle))
    type_of(tensor.view.dtype)
    cdef int ndim = tensor.view.ndim
    tensor.byte_strides = <Py_ssize_t *>malloc((ndim + 1) * sizeof(Py_ssize_t))
    if tensor.byte_strides == NULL:
        raise MemoryError()
    cdef Py_ssize_t itemsize = tensor.view.dtype.bits // 8
    cdef Py_ssize_t step = itemsize
    cdef int axis
    for axis in range(ndim - 1, -1, -1):
        tensor.byte_strides[axis] = step if tensor.view.strides == NULL else tensor.view.strides[axis] * itemsize
        step *= tensor.view.shape[axis]
    return tensor


cdef class Loan:
    pass


cdef void end_loan(void *user_data) noexcept with gil:
    loan = <Loan>user_data
    loan.ended = True
    Py_DECREF(loan)


cdef Tensor lend(const ft.ft_dl_tensor *view, Loan loan):
    cdef ft.ft_tensor *handle = NULL
    check(ft.ft_tensor_wrap(&handle, view, end_loan, <void *>loan))
    Py_INCREF(loan)  # for end_loan
    return adopt(handle, False)


cdef int copy_axis(Tensor source, int axis, char *at, char **target) except -1:
    """Writes the elements from `axis` inwards to *target in C order, moving it on."""
    cdef Py_ssize_t itemsize = source.view.dtype.bits // 8
    cdef int64_t i
    if axis == source.view.ndim:
        memcpy(target[0], at, itemsize)
        target[0] += itemsize
        return 0
    if axis == source.view.ndim - 1 and source.byte_strides[axis] == itemsize:
        memcpy(target[0], at, source.view.shape[axis] * itemsize)
        target[0] += source.view.shape[axis] * itemsize
        return 0
    for i in range(source.view.shape[axis]):
        copy_axis(source, axis + 1, at + i * source.byte_strides[axis], target)
    return 0


# Out through DLPack: a capsule that nobody consumed frees what it carries.

cdef void drop_versioned(object capsule) noexcept:
    cdef ft.ft_dl_managed_tensor *managed
    if PyCapsule_IsValid(capsule, VERSIONED):
        managed = <ft.ft_dl_managed_tensor *>PyCapsule_GetPointer(capsule, VERSIONED)
        managed.deleter(managed)


cdef void drop_legacy(object capsule) noexcept:
    cdef legacy_managed *managed
    if PyCapsule_IsValid(capsule, LEGACY):
        managed = <legacy_managed *>PyCapsule_GetPointer(capsule, LEGACY)
        managed.deleter(managed)


cdef void delete_legacy(legacy_managed *self) noexcept nogil:
    """The legacy form only points at a versioned one, which owns the memory."""
    cdef ft.ft_dl_managed_tensor *owner = <ft.ft_dl_managed_tensor *>self.manager_ctx
    owner.deleter(owner)
    free(self)


cdef object legacy_capsule(ft.ft_dl_managed_tensor *managed):
    cdef legacy_managed *legacy = <legacy_managed *>malloc(sizeof(legacy_managed))
    if legacy == NULL:
        raise MemoryError()
    legacy.dl_tensor = managed.dl_tensor
    legacy.manager_ctx = managed
    legacy.deleter = delete_legacy
    try:
        return PyCapsule_New(legacy, LEGACY, drop_legacy)
    except BaseException:
        free(legacy)
        raise


# In: DLPack capsules of either kind, else the buffer protocol.

cdef void delete_imported_legacy(ft.ft_dl_managed_tensor *self) noexcept nogil:
    cdef legacy_managed *producer = <legacy_managed *>self.manager_ctx
    if producer.deleter != NULL:
        producer.deleter(producer)
    free(self)


cdef Tensor from_versioned(object capsule):
    cdef ft.ft_dl_managed_tensor *managed = <ft.ft_dl_managed_tensor *>PyCapsule_GetPointer(capsule, VERSIONED)
    if managed.version.major != 1:
        raise BufferError(f"DLPack version {managed.version.major}.{managed.version.minor} is not supported; 1.x is")
    cdef ft.ft_tensor *handle = NULL
    # The library may reshape its managed tensor, never ours: the flags are read before it takes over.
    cdef bint readonly = (managed.flags & ft.FT_DL_FLAG_READ_ONLY) != 0
    check(ft.ft_tensor_from_dlpack(&handle, managed))
    PyCapsule_SetName(capsule, VERSIONED_USED)
    return adopt(handle, readonly)


cdef Tensor from_legacy(object capsule):
    cdef legacy_managed *producer = <legacy_managed *>PyCapsule_GetPointer(capsule, LEGACY)
    cdef ft.ft_dl_managed_tensor *managed = <ft.ft_dl_managed_tensor *>malloc(sizeof(ft.ft_dl_managed_tensor))
    if managed == NULL:
        raise MemoryError()
    managed.version.major = 1
    managed.version.minor = 0
    managed.manager_ctx = producer
    managed.deleter = delete_imported_legacy
    managed.flags = 0
    managed.dl_tensor = producer.dl_tensor
    cdef ft.ft_tensor *handle = NULL
    try:
        check(ft.ft_tensor_from_dlpack(&handle, managed))
    except BaseException:
        free(managed)
        raise
    PyCapsule_SetName(capsule, LEGACY_USED)
    return adopt(handle, False)


cdef void release_buffer(void *user_data) noexcept with gil:
    cdef Py_buffer *buffer = <Py_buffer *>user_data
    PyBuffer_Release(buffer)
    free(buffer)


cdef ft.ft_dtype dtype_of_format(bytes format) except *:
    """The element type of a buffer in native byte order."""
    cdef ft.ft_dtype dtype
    code = format.lstrip(b"@=") if format else b"B"
    if code.startswith(b"<"):  # what numpy calls little-endian is native here
        code = code[1:]
    # 'l' is 64 bits wide on the platforms libft runs on.
    code = {b"l": b"q", b"L": b"Q", b"n": b"q", b"N": b"Q"}.get(code, code)
    for (type_code, bits), (_, known) in DTYPES.items():
        if known is not None and known == code:
            dtype.code = type_code
            dtype.bits = bits
            dtype.lanes = 1
            return dtype
    raise TypeError(f"no tensor can hold elements of buffer format {format.decode('ascii', 'replace')!r}")


cdef Tensor from_buffer(object exporter):
    cdef Py_buffer *buffer = <Py_buffer *>malloc(sizeof(Py_buffer))
    if buffer == NULL:
        raise MemoryError()
    try:
        PyObject_GetBuffer(exporter, buffer, PyBUF_FULL_RO)
    except BaseException:
        free(buffer)
        raise
    cdef ft.ft_dl_tensor view
    cdef ft.ft_tensor *handle = NULL
    cdef bint readonly = buffer.readonly
    cdef int64_t[64] element_strides
    cdef int axis
    try:
        if buffer.suboffsets != NULL or buffer.ndim > 64:
            raise BufferError("the buffer is not a strided array of at most 64 dimensions")
        view.dtype = dtype_of_format(buffer.format if buffer.format != NULL else b"B")
        for axis in range(buffer.ndim):
            if buffer.strides[axis] % buffer.itemsize:
                raise BufferError("the buffer's strides are not whole elements")
            element_strides[axis] = buffer.strides[axis] // buffer.itemsize
        view.data = buffer.buf
        view.device.device_type = ft.FT_DEVICE_CPU
        view.device.device_id = 0
        view.ndim = buffer.ndim
        view.shape = <int64_t *>buffer.shape
        view.strides = element_strides
        view.byte_offset = 0
        check(ft.ft_tensor_wrap(&handle, &view, release_buffer, buffer))
    except BaseException:
        release_buffer(buffer)
        raise
    return adopt(handle, readonly)


def from_dlpack(x, /):
    """A :class:`Tensor` over the memory of ``x``, without a copy.

    ``x`` is anything with ``__dlpack__`` (PyTorch, numpy, JAX, CuPy, ...), a DLPack capsule, or an object with the
    buffer protocol. What lies on a GPU may still be computed there: calls that read it come after that. A bare capsule
    is taken to be computed. The memory is held until the tensor goes. BufferError or TypeError when it cannot be shared.
    """
    if isinstance(x, Tensor):
        return x
    if PyCapsule_IsValid(x, VERSIONED):
        return from_versioned(x)
    if PyCapsule_IsValid(x, LEGACY):
        return from_legacy(x)
    export = getattr(x, "__dlpack__", None)
    if export is None:
        try:
            return from_buffer(x)
        except TypeError as error:
            raise TypeError(f"{type(x).__name__!r} has neither __dlpack__ nor a buffer that a tensor can share: "
                            f"{error}") from None
    exchange = exchange_stream(x)
    arguments = {} if exchange is None else {"stream": exchange}
    try:
        capsule = export(max_version=(1, 0), **arguments)
    except TypeError:  # a producer from before the argument existed
        capsule = None
    except BufferError:
        # numpy before 2.1 refuses read-only arrays here; the buffer protocol can say that they are.
        if not isinstance(x, np.ndarray):
            raise
        return from_buffer(x)
    if capsule is None:
        capsule = export(**arguments)
    cdef Tensor tensor
    if PyCapsule_IsValid(capsule, VERSIONED):
        tensor = from_versioned(capsule)
    elif PyCapsule_IsValid(capsule, LEGACY):
        tensor = from_legacy(capsule)
    else:
        raise TypeError(f"{type(x).__name__}.__dlpack__ returned no DLPack capsule, or one already used")
    if exchange is not None:
        check(ft.ft_tensor_ready_after(tensor.handle, <void *><size_t>exchange))
    return tensor


cdef object exchange_stream(producer):
    """The stream on which a GPU's tensor is to be handed over; None for other devices, and GPUs that libft lacks."""
    where = getattr(producer, "__dlpack_device__", None)
    if where is None:
        return None
    cdef ft.ft_device device
    device.device_type, device.device_id = map(int, where())
    if device.device_type != ft.FT_DEVICE_CUDA:
        return None
    cdef void *stream = NULL
    if ft.ft_exchange_stream(&stream, device) != ft.FT_OK:
        return None
    return <size_t>stream
