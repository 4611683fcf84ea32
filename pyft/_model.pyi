import os
from collections.abc import Callable, Iterable
from typing import Any

from pyft._checkpoint import Checkpoint
from pyft._tensor import Tensor

class ModelHandle:
    def __init__(
        self,
        source: str | os.PathLike[str],
        device: str,
        dtype: str,
        tensor_parallel: int,
        pipeline_parallel: int,
        threads: int,
        progress: Callable[[int, int], Any] | None,
        stream: int = 0,
        allocator: Any = None,
    ) -> None: ...
    def config(self) -> dict[str, Any]: ...
    def checkpoint(self) -> Checkpoint: ...
    def tune(self, token_counts: Iterable[int]) -> list[tuple[str, float, float]]: ...
    def tuning(self) -> tuple[str, str]: ...
    def placement(self) -> tuple[str, str, int]: ...
    def ranks(self) -> list[tuple[str, int, int, int, int, int, int, str]]: ...
    def forward(
        self,
        tensors: dict[str, Tensor],
        outputs: Iterable[str],
        pooling: str,
        normalize: bool,
        output_device: str = "cpu",
    ) -> dict[str, Tensor]: ...
