# cython: language_level=3
"""Looking into a checkpoint: configuration, tensors, and GGUF's metadata, from which tokenizers are built."""
import json
import os

from libc.stdint cimport int64_t

from pyft cimport _ft as ft
from pyft._status cimport check

from pyft.errors import Error

cdef dict USAGE = {
    ft.FT_TENSOR_USED: "used",
    ft.FT_TENSOR_UNUSED: "unused",
    ft.FT_TENSOR_MISSING: "missing",
    ft.FT_TENSOR_UNSUPPORTED: "unsupported",
}


cdef str text(const char *value):
    return value.decode("utf-8", "replace") if value != NULL else None


cdef class Checkpoint:
    """An open checkpoint: a Hugging Face folder or a .gguf file, checked but not loaded."""

    def __cinit__(self, source=None):
        if source is None:  # borrow() fills it in
            return
        path = os.fsencode(source)
        cdef const char *c_path = path
        cdef ft.ft_checkpoint *handle = NULL
        cdef ft.ft_status status
        with nogil:
            status = ft.ft_checkpoint_open(&handle, c_path)
        check(status)
        self.owned = handle
        self.handle = handle

    def __dealloc__(self):
        if self.owned != NULL:
            ft.ft_checkpoint_close(self.owned)

    cdef const ft.ft_checkpoint *need(self) except NULL:
        if self.handle == NULL:
            raise Error("this Checkpoint was never opened: use Checkpoint(path)")
        return self.handle

    @property
    def format(self):
        """"safetensors", "gguf", "faster_transformer", "megatron" or "libft" (written by convert)."""
        cdef const char *out = NULL
        check(ft.ft_checkpoint_format(&out, self.need()))
        return text(out)

    def config(self):
        """The configuration in libft's own terms, as a dict."""
        cdef const char *out = NULL
        check(ft.ft_checkpoint_config(&out, self.need()))
        return json.loads(text(out))

    def tensors(self):
        """Dicts of name, dtype, shape, file, size_bytes, usage: "used", "unused", "missing", or "unsupported" for a weight
        in a dtype that libft lacks, and weights: libft's names of what it holds. In file order."""
        cdef size_t count = 0
        cdef ft.ft_tensor_info info
        check(ft.ft_checkpoint_tensor_count(&count, self.need()))
        found = []
        for index in range(count):
            info = ft.pyft_init_ft_tensor_info()
            check(ft.ft_checkpoint_tensor(&info, self.handle, index))
            found.append({
                "name": text(info.name),
                "dtype": text(info.dtype),
                "shape": tuple([info.shape[i] for i in range(info.ndim)]),
                "file": text(info.file),
                "size_bytes": info.size_bytes,
                "usage": USAGE[info.usage],
                "weights": text(info.weights).split(", ") if info.weights != NULL else [],
            })
        return found

    def metadata_keys(self):
        """GGUF keys in file order; none for a folder."""
        cdef size_t count = 0
        cdef const char *key = NULL
        check(ft.ft_checkpoint_metadata_count(&count, self.need()))
        keys = []
        for index in range(count):
            check(ft.ft_checkpoint_metadata_key(&key, self.handle, index))
            keys.append(text(key))
        return keys

    def metadata(self, str key):
        """A key's values as a list: a scalar is a list of one. KeyError when there is no such key."""
        cdef ft.ft_metadata_type kind = ft.FT_METADATA_INT
        cdef size_t length = 0, size = 0
        cdef int64_t integer = 0
        cdef double number = 0
        cdef const char *string = NULL
        encoded = key.encode()
        cdef const char *c_key = encoded
        check(ft.ft_checkpoint_metadata_type(&kind, &length, self.need(), c_key))
        values = []
        for index in range(length):
            if kind == ft.FT_METADATA_STRING:
                check(ft.ft_checkpoint_metadata_string(&string, &size, self.handle, c_key, index))
                values.append(string[:size].decode("utf-8", "replace"))
            elif kind == ft.FT_METADATA_FLOAT:
                check(ft.ft_checkpoint_metadata_float(&number, self.handle, c_key, index))
                values.append(number)
            else:
                check(ft.ft_checkpoint_metadata_int(&integer, self.handle, c_key, index))
                values.append(bool(integer) if kind == ft.FT_METADATA_BOOL else integer)
        return values


cdef Checkpoint borrow(const ft.ft_checkpoint *handle, object keeper):
    cdef Checkpoint checkpoint = Checkpoint.__new__(Checkpoint)
    checkpoint.handle = handle
    checkpoint.keeper = keeper
    return checkpoint
