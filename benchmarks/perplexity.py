"""Perplexity of checkpoints on a text: what fewer bits cost.

    python benchmarks/perplexity.py SOURCE[:DTYPE] ... [--text FILE] [--json]

Each source is a folder or .gguf file, with a compute dtype after a colon if not the checkpoint's own. The text (by
default a page of prose from the tests) is one sequence; perplexity is exp of the mean negative log-likelihood of its
tokens but the first. Later sources are compared with the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import pyft

PAGE = Path(__file__).resolve().parent.parent / "tests" / "parity" / "page.txt"
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


def perplexity(model: pyft.Model, ids: list[int]) -> float:
    """exp(mean of -log p(token | those before it)), in float64."""
    logits = model.forward([ids], outputs="logits").logits.numpy()[0, :-1]
    total = 0.0
    for row, token in zip(logits, ids[1:], strict=True):
        wide = row.astype(np.float64)
        top = wide.max()
        total += top + np.log(np.exp(wide - top).sum()) - wide[token]
    return float(np.exp(total / (len(ids) - 1)))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="SOURCE[:DTYPE]")
    parser.add_argument("--text", type=Path, default=PAGE)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    text = args.text.read_text(encoding="utf-8")
    found = []
    for source in args.sources:
        path, _, dtype = source.rpartition(":")
        if dtype not in DTYPES:
            path, dtype = source, "auto"
        model = pyft.load(path, device="cpu", dtype=dtype, threads=args.threads)
        ids = model.encode(text).tolist()
        value = perplexity(model, ids)
        first = found[0]["perplexity"] if found else value
        found.append(
            {
                "source": path,
                "dtype": model.dtype,
                "tokens": len(ids),
                "weight_bytes": model.weight_bytes,
                "perplexity": value,
                "over_first": value / first - 1,
            }
        )
        model.close()
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{'perplexity':>10} {'over first':>11} {'MB':>7}  dtype     source")
    for f in found:
        megabytes = f["weight_bytes"] / 1e6
        print(f"{f['perplexity']:>10.4f} {f['over_first']:>+11.3%} {megabytes:>7.1f}  {f['dtype']:<9} {f['source']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
