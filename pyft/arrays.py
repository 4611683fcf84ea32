"""Arrays of whatever make as numpy arrays or Tensors, over the same memory where that is possible."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pyft._tensor import Tensor, from_dlpack

# Types that libft takes under another name of the same width. No id or mask comes near the sign bit: one that sets it
# is refused as negative.
_AS_SIGNED = {"bool": "uint8", "uint16": "int16", "uint32": "int32", "uint64": "int64"}


_CPU = 1  # DLPack's device type


def on_device(value: Any) -> bool:
    """Whether an array lies in another memory than the host's."""
    return hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) != _CPU


def host_array(value: Any, name: str) -> npt.NDArray[Any]:
    """A numpy array over an array's memory, or of a nested list's values; of an array on a GPU, a copy. Ragged lists
    are a ValueError."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Tensor) or on_device(value):
        return from_dlpack(value).cpu().numpy()
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return from_dlpack(value).numpy()
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be an array of numbers, not text")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from None


def integer_tensor(value: Any, name: str) -> Tensor:
    """A Tensor over an integer or boolean array's memory; only a foreign byte order costs a copy."""
    foreign = not hasattr(value, "__dlpack__")
    if foreign or str(getattr(value, "dtype", "")).removeprefix("torch.") in _AS_SIGNED:
        value = host_array(value, name)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "iub":
            hint = " (ragged rows?)" if value.dtype == object else ""
            raise TypeError(f"{name} must hold integers, not {value.dtype}{hint}")
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        value = value.view(_AS_SIGNED.get(value.dtype.name, value.dtype))
    tensor = from_dlpack(value)
    if "int" not in tensor.dtype:
        raise TypeError(f"{name} must hold integers, not {tensor.dtype}")
    return tensor


def float_tensor(value: Any, name: str) -> Tensor:
    """A Tensor over a float array's memory."""
    if not hasattr(value, "__dlpack__"):
        value = host_array(value, name)
    tensor = from_dlpack(value)
    if "float" not in tensor.dtype:
        raise TypeError(f"{name} must hold floats, not {tensor.dtype}")
    return tensor
