"""What ``pyft bench`` measures: tokens a second of prompts and of decoding, or of encoding."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pyft.forward import embed_rows
from pyft.model import Model


@dataclass(slots=True)
class BenchResult:
    """Best of the repetitions. Times in seconds, rates per second; None where the model has no such thing."""

    source: str
    architecture: str
    device: str
    dtype: str
    weight_bytes: int
    load_seconds: float
    batch: int
    prompt: int
    new: int | None
    beams: int
    prompt_seconds: float
    prompt_tokens_per_second: float
    decode_seconds: float | None = None
    decode_tokens_per_second: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def best_of(repeat: int, run: Callable[[], None]) -> float:
    """The shortest time of `repeat` runs after one that is not counted."""
    run()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(
    model: Model, *, name: str, load_seconds: float, batch: int, prompt: int, new: int, beams: int, repeat: int
) -> BenchResult:
    """Times `batch` prompts of `prompt` random tokens, and `new` more tokens of each where the model generates; with
    `beams`, of the best of them: a step computes batch * beams rows."""
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, model.config.vocab_size, prompt, dtype=np.int32) for _ in range(batch)]
    result = BenchResult(
        source=name,
        architecture=str(model.config.architecture),
        device=model.device,
        dtype=model.dtype,
        weight_bytes=model.weight_bytes,
        load_seconds=load_seconds,
        batch=batch,
        prompt=prompt,
        new=None,
        beams=beams,
        prompt_seconds=0.0,
        prompt_tokens_per_second=0.0,
    )
    if model.generates:
        _measure_decoder(model, result, rows, new, repeat)
    else:
        result.prompt_seconds = best_of(repeat, lambda: _discard(embed_rows(model, rows, "mean", True)))
    result.prompt_tokens_per_second = batch * prompt / result.prompt_seconds
    return result


def _measure_decoder(model: Model, result: BenchResult, rows: list[Any], new: int, repeat: int) -> None:
    """The first token ends the prompt's part; the time of a longer run beyond it is decoding's."""

    def run(tokens: int) -> None:
        _discard(model.generate(rows, max_new_tokens=tokens, stop_token_ids=[], num_beams=result.beams))

    result.new = new
    result.prompt_seconds = best_of(repeat, lambda: run(1))
    if new > 1:
        result.decode_seconds = max(best_of(repeat, lambda: run(new)) - result.prompt_seconds, 1e-9)
        result.decode_tokens_per_second = result.batch * (new - 1) / result.decode_seconds


def _discard(_: Any) -> None:
    """Drops a result, so that its memory is free before the next run."""
