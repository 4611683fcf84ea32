"""pyft on one GPU beside transformers on PyTorch, in one run: the milliseconds of a decode step, of a prompt and of an
encoder's pass, with random weights in float16, and the share of the floor that memory or matrix units set.

    python benchmarks/gpu.py [--models gptj-6b,bert-base] [--decode 9x1,33x1] [--no-torch] [--profile] [--tune]
                             [--json FILE]

Each model's logits are compared with transformers' before anything is timed. Decoding is the difference of two runs
that differ in their number of new tokens; the median of several such differences counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
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

PROMPT = 128
FEW, MANY = 32, 160  # new tokens of the two runs whose difference is timed

DECODERS: dict[str, list[tuple[int, int]]] = {  # batch, beams
    "gptj-6b": [(1, 1), (8, 1), (32, 1), (1, 4), (8, 4)],
    "llama-8b": [(1, 1), (32, 1)],
    "t5-3b": [(1, 1), (8, 1), (1, 4), (8, 4)],
}
SAMPLED: dict[str, list[int]] = {"gptj-6b": [1, 8]}  # batches, as people sample:
AS_SAMPLED = {"do_sample": True, "top_k": 50, "top_p": 0.9, "temperature": 0.8, "repetition_penalty": 1.1}
PROMPTS: dict[str, list[tuple[int, int]]] = {  # batch, tokens
    "gptj-6b": [(1, 128), (32, 128)],
    "llama-8b": [(1, 128), (1, 2048), (8, 2048)],
}
ENCODERS: dict[str, list[tuple[int, int]]] = {
    "bert-base": [(1, 128), (32, 128)],
    "bert-large": [(32, 128), (32, 512)],
    "t5-3b": [(8, 128)],
}

# Of an encoder-decoder: the matrices that each new token passes through, and each token of the source.
DECODER_PART = re.compile(r"shared|decoder\.(?!.*EncDecAttention\.[kv]\.)")
ENCODER_PART = re.compile(r"encoder\.")


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


def matrix_elements(name: str, part: re.Pattern[str] | None) -> int:
    """Of the matrices that each token passes through: all, or those of a part of the model."""
    skipped = ("embed", "wte", "position", "token_type", "pooler", "relative")
    return sum(
        math.prod(shape)
        for key, shape in presets.PRESETS[name].tensors()
        if len(shape) == 2 and not any(s in key for s in skipped) and (part is None or part.match(key))
    )


def device_seconds(run: Callable[[], Any], repeat: int = 10) -> float:
    run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeat):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeat


@functools.cache
def copy_rate() -> float:
    """Bytes a second, read and written ones counted, of a copy within the GPU's memory."""
    x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() / device_seconds(lambda: y.copy_(x))


@functools.cache
def float16_rate() -> float:
    """Operations a second of a product of large random matrices."""
    n = 8192
    x, y = (torch.randn(n, n, device="cuda", dtype=torch.float16) for _ in range(2))
    return 2 * n**3 / device_seconds(lambda: x @ y)


def floor_ms(name: str, tokens: int, part: re.Pattern[str] | None = None) -> float:
    elements = matrix_elements(name, part)
    return 1e3 * max(2 * elements / copy_rate(), 2 * elements * tokens / float16_rate())


def draw(model: Any, batch: int, length: int) -> list[np.ndarray]:
    rng = np.random.default_rng()
    return [rng.integers(3, model.config.vocab_size, length, dtype=np.int32) for _ in range(batch)]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert np.isfinite(ours).all()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def two_sided(name: str) -> bool:
    return name in ENCODERS and name in DECODERS


def open_torch(folder: Path, name: str) -> Any:
    import transformers

    kind = (
        transformers.AutoModelForSeq2SeqLM
        if two_sided(name)
        else transformers.AutoModel
        if name in ENCODERS
        else transformers.AutoModelForCausalLM
    )
    return kind.from_pretrained(folder, dtype=torch.float16).to("cuda").eval()


@torch.no_grad()
def torch_decode_ms(model: Any, batch: int) -> float:
    """A step of greedy decoding with a cache, eagerly."""
    ids = torch.randint(3, 1000, (batch, PROMPT), device="cuda")
    if model.config.is_encoder_decoder:
        start = torch.zeros((batch, 1), dtype=torch.long, device="cuda")
        out = model(input_ids=ids, decoder_input_ids=start, use_cache=True)
        kept = {"encoder_outputs": (out.encoder_last_hidden_state,)}
    else:
        out = model(ids, use_cache=True)
        kept = {}
    named = "decoder_input_ids" if kept else "input_ids"
    token = out.logits[:, -1:].argmax(-1)
    cache = out.past_key_values

    def step() -> None:
        nonlocal token
        given = {named: token, "past_key_values": cache, "use_cache": True, **kept}
        token = model(**given).logits[:, -1:].argmax(-1)
        token.cpu()

    return median_ms(step, 20)


@torch.no_grad()
def torch_pass_ms(model: Any, batch: int, length: int) -> float:
    ids = torch.randint(3, 1000, (batch, length), device="cuda")
    model = model.get_encoder() if model.config.is_encoder_decoder else model

    def run() -> None:
        out = model(ids)
        (out.logits[:, -1] if hasattr(out, "logits") else out.last_hidden_state[:, 0]).sum().item()

    return median_ms(run)


def gpu_bytes() -> int:
    free, total = torch.cuda.mem_get_info()
    return total - free


def generate(model: Any, prompts: list[np.ndarray], new: int, **settings: Any) -> None:
    model.generate(prompts, max_new_tokens=new, stop_token_ids=[], **settings)


def decode_ms(model: Any, batch: int, **settings: Any) -> float:
    prompts = draw(model, batch, PROMPT)

    def run(new: int) -> float:
        start = time.perf_counter()
        generate(model, prompts, new, **settings)
        return time.perf_counter() - start

    run(FEW)
    return 1e3 * statistics.median((run(MANY) - run(FEW)) / (MANY - FEW) for _ in range(3))


def prompt_ms(model: Any, batch: int, length: int) -> float:
    return median_ms(lambda: generate(model, draw(model, batch, length), 1))


@torch.no_grad()
def logits_distance(ours: Any, theirs: Any) -> float:
    ids = draw(ours, 1, 64)[0]
    row = torch.tensor(ids[None].astype(np.int64), device="cuda")
    if theirs.config.is_encoder_decoder:
        reference = theirs(input_ids=row, decoder_input_ids=row).logits
        logits = ours.forward([ids], decoder_input_ids=[ids]).logits
    else:
        reference = theirs(row).logits
        logits = ours.forward([ids]).logits
    return relative(logits.numpy()[0], reference[0].float().cpu().numpy())


@torch.no_grad()
def states_distance(ours: Any, theirs: Any, ids: np.ndarray) -> float:
    rows = torch.tensor(ids.astype(np.int64), device="cuda")
    if theirs.config.is_encoder_decoder:
        reference = theirs.get_encoder()(rows).last_hidden_state
        states = ours.forward(ids, decoder_input_ids=ids[:, :1]).encoder_last_hidden_state
    else:
        reference = theirs(rows).last_hidden_state
        states = ours.forward(ids).last_hidden_state
    return relative(states.numpy(), reference.float().cpu().numpy())


def print_profile(work: str, run: Callable[[], Any], most: int = 12) -> None:
    """Which kernels the time goes to, by name. A kernel's time is that from the end of the one before, or from its own
    start where that is later: kernels come onto the chip early and wait, which is not to be counted twice."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    ranges = [
        (event.time_range.end, event.time_range.start, event.name)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    taken: dict[str, tuple[float, int]] = {}
    last = idle = 0.0
    for end, start, name in sorted(ranges):
        idle += max(0.0, start - last) if last else 0.0
        micros, calls = taken.get(name, (0.0, 0))
        taken[name] = micros + max(0.0, end - max(last, start)), calls + 1
        last = max(last, end)
    total = idle + sum(micros for micros, _ in taken.values())
    print(f"profile of {work}: {total:.0f} us, {idle / total:.1%} of them with nothing on the device")
    for name, (micros, calls) in sorted(taken.items(), key=lambda item: -item[1][0])[:most]:
        short = re.sub(r"ft::cuda::|\(anonymous namespace\)::|^void ", "", name)[:100]
        print(f"  {micros / total:5.1%} {micros:9.0f} us {calls:6d} calls of {micros / calls:8.2f} us  {short}")


class Bench:
    """One model, and transformers' beside it unless that is not wanted."""

    def __init__(
        self, name: str, folder: Path, with_torch: bool, profiles: bool, tunes: bool, decodes: list[tuple[int, int]]
    ) -> None:
        self.profiles = profiles
        self.decodes = decodes
        self.name = name
        self.rows: list[Row] = []
        self.before = gpu_bytes()
        rows = max((batch * beams for batch, beams in decodes), default=None)
        self.ours = pyft.load(folder, device="cuda", dtype="float16", prefix_cache=False, max_batch_size=rows)
        if tunes:
            passes = PROMPTS.get(name, []) + ENCODERS.get(name, [])
            for product in self.ours.tune(sorted({batch * length for batch, length in passes})):
                print(f"{product.before:10.1f} -> {product.after:8.1f} us  {product.name}")
        self.theirs = open_torch(folder, name) if with_torch else None

    def measure(self) -> list[Row]:
        distance = logits_distance(self.ours, self.theirs) if self.theirs and self.name in DECODERS else None
        for batch, beams in self.decodes or DECODERS.get(self.name, []):
            floor = floor_ms(self.name, batch * beams, DECODER_PART if two_sided(self.name) else None)
            other = torch_decode_ms(self.theirs, batch) if self.theirs and beams == 1 else None
            self.add(f"decode {batch}x{beams}", decode_ms(self.ours, batch, num_beams=beams), other, floor, distance)
            self.profile(lambda n=batch, b=beams: generate(self.ours, draw(self.ours, n, PROMPT), 17, num_beams=b))
        if self.decodes:
            self.ours.close()
            return self.rows
        for batch in SAMPLED.get(self.name, []):
            floor = floor_ms(self.name, batch)
            self.add(f"decode {batch}x1 sampled", decode_ms(self.ours, batch, **AS_SAMPLED), None, floor, distance)
            self.profile(lambda n=batch: generate(self.ours, draw(self.ours, n, PROMPT), 17, **AS_SAMPLED))
        for batch, length in PROMPTS.get(self.name, []):
            floor = floor_ms(self.name, batch * length)
            other = torch_pass_ms(self.theirs, batch, length) if self.theirs and batch * length < 8192 else None
            self.add(f"prompt {batch}x{length}", prompt_ms(self.ours, batch, length), other, floor, distance)
            self.profile(lambda n=batch, length=length: generate(self.ours, draw(self.ours, n, length), 1))
        for batch, length in ENCODERS.get(self.name, []):
            self.measure_encoder(batch, length)
        self.ours.close()
        return self.rows

    def measure_encoder(self, batch: int, length: int) -> None:
        ids = np.stack(draw(self.ours, batch, length))
        distance = states_distance(self.ours, self.theirs, ids) if self.theirs else None
        other = torch_pass_ms(self.theirs, batch, length) if self.theirs else None
        ours = median_ms(lambda: embed_rows(self.ours, list(ids), "mean", True), 20)
        floor = floor_ms(self.name, batch * length, ENCODER_PART if two_sided(self.name) else None)
        self.add(f"{'encoder ' if two_sided(self.name) else ''}{batch}x{length}", ours, other, floor, distance)
        self.profile(lambda: embed_rows(self.ours, list(ids), "mean", True))

    def profile(self, run: Callable[[], Any]) -> None:
        if self.profiles:
            print_profile(self.rows[-1].work, run)

    def add(self, work: str, ours: float, torch_ms: float | None, floor: float, distance: float | None) -> None:
        memory = gpu_bytes() - self.before
        self.rows.append(Row(f"{self.name} {work}", ours, torch_ms, floor, memory, distance))
        print(self.rows[-1], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join({**ENCODERS, **DECODERS}))
    parser.add_argument("--decode", default="", help="batches x beams to decode in the place of all other work")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--profile", action="store_true", help="which kernels each row's time goes to")
    parser.add_argument("--tune", action="store_true", help="choose matrix algorithms by timing them first")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    print(f"copies {copy_rate() / 1e12:.2f} TB/s, float16 products {float16_rate() / 1e12:.0f} TFLOP/s", flush=True)
    torch.cuda.empty_cache()
    decodes = [(int(batch), int(beams)) for batch, beams in re.findall(r"(\d+)x(\d+)", options.decode)]
    rows: list[Row] = []
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory(prefix=f"pyft-{name}-") as folder:
            presets.write_checkpoint(presets.PRESETS[name], Path(folder))
            bench = Bench(name, Path(folder), not options.no_torch, options.profile, options.tune, decodes)
            rows += bench.measure()
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
