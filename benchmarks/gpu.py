"""pyft on one GPU beside transformers on PyTorch, in one run: the milliseconds of a decode step, of a prompt and of an
encoder's pass, with random weights in float16, and the share of the floor that memory or matrix units set.

    python benchmarks/gpu.py [--models gptj-6b,bert-base] [--no-torch] [--json FILE]

Each model's logits are compared with transformers' before anything is timed. Decoding is the difference of two runs
that differ in their number of new tokens; the median of several such differences counts.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pyft
from pyft import presets
from pyft.forward import embed_rows

COPY_BYTES = 4.28e12  # a second; measured on an H200 by copying between two buffers
FLOAT16_RATE = 728e12  # operations a second; measured there on a product of random matrices

PROMPT = 128
FEW, MANY = 32, 160  # new tokens of the two runs whose difference is timed

DECODERS: dict[str, list[tuple[int, int]]] = {  # batch, beams
    "gptj-6b": [(1, 1), (8, 1), (32, 1), (1, 4), (8, 4)],
    "llama-8b": [(1, 1), (32, 1)],
}
PROMPTS: dict[str, list[tuple[int, int]]] = {  # batch, tokens
    "gptj-6b": [(1, 128), (32, 128)],
    "llama-8b": [(1, 128), (1, 2048), (8, 2048)],
}
ENCODERS: dict[str, list[tuple[int, int]]] = {
    "bert-base": [(1, 128), (32, 128)],
    "bert-large": [(32, 128), (32, 512)],
}


@dataclass
class Row:
    """One line of the table; times in milliseconds."""

    work: str
    ours: float
    torch: float | None
    floor: float
    gpu_bytes: int
    distance: float | None  # of our logits or states from transformers', relative


def median_ms(run: Callable[[], Any], repeat: int = 5) -> float:
    run()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def matrix_elements(name: str) -> int:
    """Of the matrices that each token passes through."""
    skipped = ("embed", "wte", "position", "token_type", "pooler")
    tensors = presets.PRESETS[name].tensors()
    return sum(math.prod(shape) for key, shape in tensors if len(shape) == 2 and not any(s in key for s in skipped))


def floor_ms(name: str, tokens: int) -> float:
    elements = matrix_elements(name)
    return 1e3 * max(2 * elements / COPY_BYTES, 2 * elements * tokens / FLOAT16_RATE)


def draw(model: Any, batch: int, length: int) -> list[np.ndarray]:
    rng = np.random.default_rng()
    return [rng.integers(3, model.config.vocab_size, length, dtype=np.int32) for _ in range(batch)]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert np.isfinite(ours).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def open_torch(folder: Path, name: str) -> Any:
    import transformers

    kind = transformers.AutoModel if name in ENCODERS else transformers.AutoModelForCausalLM
    return kind.from_pretrained(folder, dtype=torch.float16).to("cuda").eval()


@torch.no_grad()
def torch_decode_ms(model: Any, batch: int) -> float:
    """A step of greedy decoding with a cache, eagerly."""
    ids = torch.randint(3, 1000, (batch, PROMPT), device="cuda")
    out = model(ids, use_cache=True)
    token = out.logits[:, -1:].argmax(-1)
    cache = out.past_key_values

    def step() -> None:
        nonlocal token
        token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        token.cpu()

    return median_ms(step, 20)


@torch.no_grad()
def torch_pass_ms(model: Any, batch: int, length: int) -> float:
    ids = torch.randint(3, 1000, (batch, length), device="cuda")

    def run() -> None:
        out = model(ids)
        (out.logits[:, -1] if hasattr(out, "logits") else out.last_hidden_state[:, 0]).sum().item()

    return median_ms(run)


def gpu_bytes() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def decode_ms(model: Any, batch: int, beams: int) -> float:
    prompts = draw(model, batch, PROMPT)

    def run(new: int) -> float:
        start = time.perf_counter()
        model.generate(prompts, max_new_tokens=new, num_beams=beams, stop_token_ids=[])
        return time.perf_counter() - start

    run(FEW)
    return 1e3 * statistics.median((run(MANY) - run(FEW)) / (MANY - FEW) for _ in range(3))


def prompt_ms(model: Any, batch: int, length: int) -> float:
    return median_ms(lambda: model.generate(draw(model, batch, length), max_new_tokens=1, stop_token_ids=[]))


def measure_decoder(name: str, folder: Path, with_torch: bool) -> list[Row]:
    before = gpu_bytes()
    model = pyft.load(folder, device="cuda", dtype="float16", prefix_cache=False)
    rows, distance, theirs = [], None, None
    if with_torch:
        theirs = open_torch(folder, name)
        ids = draw(model, 1, 64)[0]
        with torch.no_grad():
            reference = theirs(torch.tensor(ids[None].astype(np.int64), device="cuda")).logits[0].float().cpu().numpy()
        distance = relative(model.forward([ids]).logits.numpy()[0], reference)
    for batch, beams in DECODERS[name]:
        ours = decode_ms(model, batch, beams)
        other = torch_decode_ms(theirs, batch) if theirs is not None and beams == 1 else None
        rows.append(
            Row(f"{name} decode {batch}x{beams}", ours, other, floor_ms(name, batch), gpu_bytes() - before, distance)
        )
        print(rows[-1], flush=True)
    for batch, length in PROMPTS[name]:
        other = torch_pass_ms(theirs, batch, length) if theirs is not None and batch * length < 8192 else None
        ours = prompt_ms(model, batch, length)
        floor = floor_ms(name, batch * length)
        rows.append(Row(f"{name} prompt {batch}x{length}", ours, other, floor, gpu_bytes() - before, distance))
        print(rows[-1], flush=True)
    model.close()
    return rows


def measure_encoder(name: str, folder: Path, with_torch: bool) -> list[Row]:
    before = gpu_bytes()
    model = pyft.load(folder, device="cuda", dtype="float16")
    theirs = open_torch(folder, name) if with_torch else None
    rows = []
    for batch, length in ENCODERS[name]:
        ids = np.stack(draw(model, batch, length))
        distance = other = None
        if theirs is not None:
            with torch.no_grad():
                reference = theirs(torch.tensor(ids.astype(np.int64), device="cuda")).last_hidden_state.float().cpu()
            distance = relative(model.forward(ids).last_hidden_state.numpy(), reference.numpy())
            other = torch_pass_ms(theirs, batch, length)
        ours = median_ms(lambda ids=ids: embed_rows(model, list(ids), "mean", True))
        floor = floor_ms(name, batch * length)
        rows.append(Row(f"{name} {batch}x{length}", ours, other, floor, gpu_bytes() - before, distance))
        print(rows[-1], flush=True)
    model.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join([*ENCODERS, *DECODERS]))
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__, flush=True)
    rows: list[Row] = []
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory(prefix=f"pyft-{name}-") as folder:
            presets.write_checkpoint(presets.PRESETS[name], Path(folder))
            measure = measure_encoder if name in ENCODERS else measure_decoder
            rows += measure(name, Path(folder), not options.no_torch)
    print(f"{'work':28} {'ours ms':>9} {'torch ms':>9} {'floor ms':>9} {'of floor':>8} {'GiB':>6} {'distance':>9}")
    for r in rows:
        other = f"{r.torch:9.3f}" if r.torch is not None else f"{'-':>9}"
        distance = f"{r.distance:9.1e}" if r.distance is not None else f"{'-':>9}"
        share = f"{r.floor / r.ours:7.0%}"
        print(f"{r.work:28} {r.ours:9.3f} {other} {r.floor:9.3f} {share:>8} {r.gpu_bytes / 2**30:6.2f} {distance}")
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()
