"""pyft: transformer inference from Python over libft's C ABI.

    import pyft
    model = pyft.load("SmolLM2-135M-Instruct.Q4_1.gguf")
    print(model.generate("The capital of France is", max_new_tokens=8).text)

Calls that compute release the GIL: threads run together, and ``await asyncio.to_thread(model.generate, ...)`` keeps an
event loop free. A model belongs to the process that loaded it: after ``fork()`` the child must load its own.
"""

from pyft._status import version as _version
from pyft._tensor import Tensor, from_dlpack
from pyft.convert import convert
from pyft.errors import (
    CancelledError,
    CheckpointError,
    Error,
    OutOfMemoryError,
    ParallelError,
    UnsupportedError,
)
from pyft.forward import Outputs
from pyft.generation import Generation, TextStream
from pyft.hardware import Device, devices
from pyft.loaded_model import Config
from pyft.model import Allocator, Model, Rank, TunedProduct, load
from pyft.paths import cmake_prefix_path, get_include, get_library_dir

__version__: str = _version()

__all__ = [
    "Allocator",
    "CancelledError",
    "CheckpointError",
    "Config",
    "Device",
    "Error",
    "Generation",
    "Model",
    "OutOfMemoryError",
    "Outputs",
    "ParallelError",
    "Rank",
    "Tensor",
    "TextStream",
    "TunedProduct",
    "UnsupportedError",
    "__version__",
    "cmake_prefix_path",
    "convert",
    "devices",
    "from_dlpack",
    "get_include",
    "get_library_dir",
    "load",
]
