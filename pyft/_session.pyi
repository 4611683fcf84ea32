from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyft._model import ModelHandle

NUMBERS: tuple[str, ...]

class Session:
    def __init__(
        self,
        model: ModelHandle,
        max_batch_size: int = 0,
        max_tokens_per_step: int = 0,
        kv_cache_bytes: int = 0,
        prefix_cache: bool = True,
        prefix_cache_bytes: int = 0,
    ) -> None: ...
    def submit(
        self,
        prompt: npt.ArrayLike,
        options: dict[str, Any],
        stop_function: Callable[[list[int]], Any] | None = None,
        stop_window: int = 0,
        logits_function: Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], Any] | None = None,
        constraint: Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], Any] | None = None,
    ) -> Request: ...
    def check(self, prompt: npt.ArrayLike, options: dict[str, Any]) -> None: ...
    def wait(self, done: Callable[[], bool]) -> None: ...
    def sweep(self) -> None: ...
    def stats(self) -> dict[str, int]: ...

class Request:
    def finish_reason(self) -> str | None: ...
    def results(self) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32] | None, float | None, str]]: ...
    def prompt_logprobs(self) -> npt.NDArray[np.float32] | None: ...
    def count(self) -> int: ...
    def tokens(self, first: int = 0) -> npt.NDArray[np.int32]: ...
    def cancel(self) -> None: ...
