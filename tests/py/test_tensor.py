"""Zero copy in and out, by address; lifetimes; and what is refused."""

import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
import torch

import pyft

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "bool"]


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_in_and_out_shares_memory(dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensor = pyft.from_dlpack(array)
    assert (tensor.dtype, tensor.shape, tensor.device) == (dtype, (2, 3, 4), "cpu")
    assert tensor.data_ptr == address(array)
    for out in (tensor.numpy(), np.asarray(tensor), np.from_dlpack(tensor), np.array(tensor, copy=False)):
        assert address(out) == address(array)
        assert out.dtype == array.dtype
        np.testing.assert_array_equal(out, array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_in_and_out_shares_memory(dtype: str) -> None:
    source = torch.arange(24).reshape(4, 6).to(getattr(torch, dtype))
    tensor = pyft.from_dlpack(source)
    assert tensor.data_ptr == source.data_ptr()
    back = torch.from_dlpack(tensor)
    assert back.data_ptr() == source.data_ptr()
    assert torch.equal(back, source)
    back[0, 0] = 1
    assert source[0, 0] == 1


def test_bfloat16_goes_through_dlpack_only() -> None:
    source = torch.arange(6, dtype=torch.bfloat16)
    tensor = pyft.from_dlpack(source)
    assert tensor.dtype == "bfloat16"
    assert torch.from_dlpack(tensor).data_ptr() == source.data_ptr()
    with pytest.raises(TypeError, match="bfloat16"):
        tensor.numpy()
    with pytest.raises(TypeError, match="bfloat16"):
        np.asarray(tensor)
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(tensor)
    assert torch.equal(torch.from_dlpack(tensor.copy()), source)


def test_strided_views_share_memory() -> None:
    array = np.arange(60, dtype=np.float32).reshape(5, 12)[::2, 3:9:3].T
    tensor = pyft.from_dlpack(array)
    assert tensor.strides == array.strides
    assert address(tensor.numpy()) == address(array)
    np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(torch.from_dlpack(tensor).numpy(), array)
    with pytest.raises(BufferError):
        memoryview(tensor).cast("B")[:0] if memoryview(tensor).c_contiguous else bytes_of(tensor)
    copy = tensor.copy()
    np.testing.assert_array_equal(copy.numpy(), array)
    assert copy.numpy().flags.c_contiguous


def bytes_of(tensor: pyft.Tensor) -> bytes:
    """Asks for a C-contiguous buffer, as hashlib does."""
    import hashlib

    return hashlib.sha256(tensor).digest()


def test_negative_strides_and_broadcasts() -> None:
    for array in (np.arange(8)[::-1], np.broadcast_to(np.arange(3), (4, 3))):
        tensor = pyft.from_dlpack(array)
        assert tensor.data_ptr == address(array)
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_empty_and_scalar() -> None:
    for array in (np.zeros((0, 3), np.float32), np.array(5.0)):
        tensor = pyft.from_dlpack(array)
        assert tensor.shape == array.shape
        assert tensor.size == array.size
        np.testing.assert_array_equal(tensor.numpy(), array)
    with pytest.raises(TypeError, match="without dimensions"):
        len(pyft.from_dlpack(np.array(5.0)))


def test_read_only_arrays_stay_read_only() -> None:
    array = np.arange(6, dtype=np.int64)
    array.flags.writeable = False
    tensor = pyft.from_dlpack(array)
    assert tensor.readonly
    assert tensor.data_ptr == address(array)
    out = np.asarray(tensor)
    assert address(out) == address(array)
    assert not out.flags.writeable
    assert not np.from_dlpack(tensor).flags.writeable
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__()  # a consumer from before 1.0 could not be told


def test_buffer_protocol_in() -> None:
    data = bytearray(range(16))
    tensor = pyft.from_dlpack(memoryview(data).cast("i"))
    assert tensor.dtype == "int32"
    np.testing.assert_array_equal(tensor.numpy(), np.frombuffer(data, np.int32))
    with pytest.raises(BufferError):
        data.append(1)  # held while the tensor lives
    del tensor
    gc.collect()
    data.append(1)
    frozen = pyft.from_dlpack(bytes(4))
    assert frozen.readonly


def test_legacy_capsules_both_ways() -> None:
    source = torch.arange(5)
    legacy = source.__dlpack__()
    tensor = pyft.from_dlpack(legacy)
    assert tensor.data_ptr == source.data_ptr()
    with pytest.raises(TypeError):
        pyft.from_dlpack(legacy)  # used up
    capsule = tensor.__dlpack__()
    assert '"dltensor"' in repr(capsule)
    assert torch.utils.dlpack.from_dlpack(capsule).data_ptr() == source.data_ptr()
    versioned = tensor.__dlpack__(max_version=(1, 1))
    assert '"dltensor_versioned"' in repr(versioned)
    del capsule, versioned  # one consumed, one never: both must free what they hold
    again = pyft.from_dlpack(tensor.__dlpack__(max_version=(1, 0)))
    assert again.data_ptr == source.data_ptr()


class OldProducer:
    """__dlpack__ from before DLPack 1.0: no keyword but stream."""

    def __init__(self, array: torch.Tensor) -> None:
        self.array = array

    def __dlpack__(self, stream: object = None) -> object:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_producer_of_the_old_protocol() -> None:
    array = torch.arange(4)
    assert pyft.from_dlpack(OldProducer(array)).data_ptr == array.data_ptr()


def test_dlpack_arguments() -> None:
    tensor = pyft.from_dlpack(np.arange(4, dtype=np.float32))
    assert tensor.__dlpack_device__() == (1, 0)
    copied = np.from_dlpack(tensor, copy=True)
    assert address(copied) != tensor.data_ptr
    np.testing.assert_array_equal(copied, tensor.numpy())
    assert np.from_dlpack(tensor, device="cpu", copy=False).ctypes.data == tensor.data_ptr
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="stream"):
        tensor.__dlpack__(stream=1)


def test_array_conversions() -> None:
    tensor = pyft.from_dlpack(np.arange(4, dtype=np.float32))
    assert np.asarray(tensor, dtype=np.float64).dtype == np.float64
    assert address(np.array(tensor)) != tensor.data_ptr
    assert tensor.__array__(copy=True).ctypes.data != tensor.data_ptr
    with pytest.raises(ValueError, match="without a copy"):
        tensor.__array__(dtype=np.float64, copy=False)
    assert tensor.tolist() == [0, 1, 2, 3]
    assert len(tensor) == 4


def test_no_cuda_interface_on_the_cpu() -> None:
    tensor = pyft.from_dlpack(np.zeros(2))
    assert not hasattr(tensor, "__cuda_array_interface__")


def test_source_lives_as_long_as_any_view() -> None:
    class Owner(np.ndarray):
        """A weakly referencable array."""

    array = np.arange(1000).view(Owner)
    alive = weakref.ref(array)
    tensor = pyft.from_dlpack(array)
    out = tensor.numpy()
    other = torch.from_dlpack(tensor)
    del array, tensor
    gc.collect()
    assert alive() is not None
    assert out[999] == 999
    del out
    gc.collect()
    assert other[999] == 999
    del other
    gc.collect()
    assert alive() is None


def test_no_reference_leaks() -> None:
    array = np.arange(10)
    before = sys.getrefcount(array)
    for _ in range(100):
        tensor = pyft.from_dlpack(array)
        np.asarray(tensor)
        torch.from_dlpack(tensor)
        tensor.__dlpack__()
        tensor.__dlpack__(max_version=(1, 0))
    del tensor
    gc.collect()
    assert sys.getrefcount(array) == before


def test_misuse() -> None:
    with pytest.raises(TypeError):
        pyft.Tensor()
    for wrong in (None, 5, [1, 2], "text", np.array(["a"]), np.zeros(2, complex), np.zeros(2, ">i4")):
        with pytest.raises((TypeError, ValueError, BufferError)):
            pyft.from_dlpack(wrong)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(pyft.from_dlpack(np.zeros(2)))
    with pytest.raises(Exception, match="grad"):
        pyft.from_dlpack(torch.zeros(2, requires_grad=True))


def test_repr() -> None:
    assert repr(pyft.from_dlpack(np.zeros((2, 3)))) == "pyft.Tensor(shape=[2, 3], dtype=float64, device=cpu)"
