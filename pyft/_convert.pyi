import os
from collections.abc import Callable
from typing import Any

def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    dtype: str,
    tensor_parallel: int,
    pipeline_parallel: int,
    overwrite: bool,
    files: dict[bytes, bytes],
    progress: Callable[[int, int], Any] | None,
) -> None: ...
