"""Loading a model against reading its files, in time and in memory.

    python benchmarks/loading.py [SOURCE[:DTYPE] ...] [--rounds N] [--threads N] [--json]

Each source is a folder or .gguf file, with a compute dtype after a colon if not the checkpoint's own. Without any: the
two small real models where their packages are installed, and random weights in the shapes of SmolLM2-135M and of a
Llama of 0.55 billion parameters, written to a temporary folder (4 GB in all).

Each figure is the best of the rounds, each in a process of its own, reading and loading in turn:
  read    the files read() into fresh memory, from the page cache; `cold` after the page cache was told to drop them
  load    ft_model_open: mapped, checked, packed as the kernels want it
  extra   the most anonymous memory while loading over what it is afterwards, also as a multiple of the largest tensor
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
MEBIBYTE = 1 << 20


def weight_files(source: str) -> list[str]:
    path = Path(source)
    return [source] if path.is_file() else sorted(str(file) for file in path.glob("*.safetensors"))


def drop_from_page_cache(files: list[str]) -> None:
    for name in files:
        with open(name, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(files: list[str]) -> dict[str, float]:
    """Seconds to read all files into memory that is new, as a program without mmap would."""
    begin = time.perf_counter()
    for name in files:
        with open(name, "rb", buffering=0) as file:
            buffer = bytearray(os.path.getsize(name))
            view, at = memoryview(buffer), 0
            while at < len(buffer):
                at += file.readinto(view[at:])
    return {"seconds": time.perf_counter() - begin}


def load(source: str, dtype: str, threads: int) -> dict[str, float]:
    from pyft._model import ModelHandle

    begin = time.perf_counter()
    model = ModelHandle(source, "auto", dtype, 1, 1, threads, None)
    return {"seconds": time.perf_counter() - begin, "weight_bytes": model.placement()[2]}


def anonymous_bytes() -> int:
    """What this process holds besides pages of files."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


def load_and_watch(source: str, dtype: str, threads: int) -> dict[str, float]:
    """Memory before, at most during and after loading, looked at every half millisecond."""
    from pyft._model import ModelHandle

    before = anonymous_bytes()
    most, done = before, False

    def watch() -> None:
        nonlocal most
        while not done:
            most = max(most, anonymous_bytes())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch, daemon=True)  # which ends with a load that fails
    watcher.start()
    model = ModelHandle(source, "auto", dtype, 1, 1, threads, None)
    done = True
    watcher.join()
    after = anonymous_bytes()
    return {"before": before, "most": max(most, after), "after": after, "weight_bytes": model.placement()[2]}


def largest_tensor(source: str) -> int:
    from pyft._checkpoint import Checkpoint

    return max(tensor["size_bytes"] for tensor in Checkpoint(source).tensors())


def in_new_process(job: str, source: str, dtype: str, threads: int) -> dict[str, float]:
    # -P: not the source folder pyft/ of the current directory, but the installed package.
    command = [sys.executable, "-P", __file__, "--job", job, f"{source}:{dtype}", "--threads", str(threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(out)
    return result


def run_job(job: str, source: str, dtype: str, threads: int) -> dict[str, float]:
    if job == "read":
        return read(weight_files(source))
    return {"load": load, "watch": load_and_watch}[job](source, dtype, threads)


def measure(source: str, dtype: str, threads: int, rounds: int) -> dict[str, Any]:
    files = weight_files(source)
    best: dict[str, float] = {}

    def time_one(key: str, job: str) -> None:
        seconds = in_new_process(job, source, dtype, threads)["seconds"]
        best[key] = min(best.get(key, seconds), seconds)

    time_one("read", "read")  # now the files are in the page cache
    for _ in range(rounds):
        time_one("read", "read")
        time_one("load", "load")
    for key, job in (("cold_read", "read"), ("cold_load", "load")):
        for _ in range(min(rounds, 3)):
            drop_from_page_cache(files)
            time_one(key, job)
    memory = in_new_process("watch", source, dtype, threads)
    largest = largest_tensor(source)
    return {
        "source": source,
        "dtype": dtype,
        "file_bytes": sum(os.path.getsize(name) for name in files),
        "weight_bytes": memory["weight_bytes"],
        "largest_tensor_bytes": largest,
        **best,
        "ratio": best["load"] / best["read"],
        "cold_ratio": best["cold_load"] / best["cold_read"],
        "peak_over_end_bytes": memory["most"] - memory["after"],
        "peak_over_weights_bytes": memory["most"] - memory["before"] - memory["weight_bytes"],
        "peak_in_largest_tensors": (memory["most"] - memory["before"] - memory["weight_bytes"]) / largest,
    }


def default_sources(folder: Path) -> list[str]:
    from real_models import minilm_folder, smollm2_gguf

    from pyft.presets import PRESETS, Preset, write_checkpoint

    smollm2, minilm = smollm2_gguf(), minilm_folder()
    sources = [str(path) for path in (smollm2, minilm) if path]
    if smollm2:
        sources.append(f"{smollm2}:float32")
    llama = {**PRESETS["llama-1b"].config, "num_hidden_layers": 8, "vocab_size": 32000}
    for name, config in (("smollm2-135m", PRESETS["smollm2-135m"].config), ("llama-0.55b", llama)):
        for dtype in ("float32", "bfloat16"):
            path = folder / f"{name}-{dtype}"
            write_checkpoint(Preset({**config, "torch_dtype": dtype}, dtype), path)
            sources.append(str(path))
    return [*sources, f"{folder / 'llama-0.55b-bfloat16'}:float32", f"{folder / 'llama-0.55b-float32'}:int8"]


def split_source(text: str) -> tuple[str, str]:
    source, _, dtype = text.rpartition(":")
    return (source, dtype) if source and dtype in DTYPES else (text, "auto")


def row(found: dict[str, Any]) -> str:
    name = "/".join(Path(found["source"]).parts[-2:])[-40:]
    milliseconds = "  ".join(f"{1000 * found[key]:7.0f}" for key in ("read", "load"))
    cold = "  ".join(f"{1000 * found[key]:7.0f}" for key in ("cold_read", "cold_load"))
    return (
        f"{name:<40} {found['dtype']:<8} {found['file_bytes'] / MEBIBYTE:6.0f}  {milliseconds}  {found['ratio']:5.2f}"
        f"  {cold}  {found['cold_ratio']:5.2f}  {found['peak_over_weights_bytes'] / MEBIBYTE:8.1f}"
        f"  {found['peak_in_largest_tensors']:9.2f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="SOURCE[:DTYPE]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument("--folder", type=Path, help="where to write random models, instead of a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--job", choices=("read", "load", "watch"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.job:
        print(json.dumps(run_job(options.job, *split_source(options.sources[0]), options.threads)))
        return 0

    with contextlib.ExitStack() as stack:
        sources = options.sources
        if not sources:
            folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sources = default_sources(folder)
        if not options.json:
            print(f"{'source':<40} {'dtype':<8} {'MiB':>6}  {'read ms':>7}  {'load ms':>7}  ratio", end="")
            print(f"  {'cold':>7}  {'cold':>7}  ratio  {'MiB more':>8}  x largest")
        for source in sources:
            found = measure(*split_source(source), options.threads, options.rounds)
            print(json.dumps(found) if options.json else row(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
