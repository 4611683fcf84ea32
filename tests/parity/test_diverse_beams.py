"""Diverse beam search (num_beam_groups): equal to the last transformers that had it, over drawn settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import models
from .pair import Pair, draw_prompt

_OLD_TRANSFORMERS = Path(sys.prefix) / "transformers-4"
_PAD = models.VOCAB - 1  # groups that are done go on with padding there; banned, so that it stands for nothing else

pytestmark = pytest.mark.skipif(
    not _OLD_TRANSFORMERS.exists(), reason=f"{_OLD_TRANSFORMERS} is not there; `make test` installs it"
)


def _draw(pair: Pair, rng: np.random.Generator) -> dict[str, Any]:
    groups = int(rng.choice([2, 3, 4]))
    width = groups * int(rng.choice([1, 2, 3]))
    prompt = draw_prompt(rng, _PAD, 1, 20)
    said = pair.hf_greedy(prompt, 10).tokens
    stops = sorted({*rng.choice(said, 2).tolist(), int(rng.integers(3, _PAD))})[: int(rng.integers(0, 4))]
    return {
        "prompt": prompt,
        "stops": [stop for stop in stops if stop != _PAD],
        "settings": {
            "num_beams": width,
            "num_beam_groups": groups,
            "diversity_penalty": float(rng.choice([0.3, 1.0, 5.0])),
            "num_return_sequences": int(rng.integers(1, width + 1)),
            "max_new_tokens": int(rng.integers(1, 20)),
            "length_penalty": float(rng.choice([1.0, 0.0, 2.0, -1.0, 0.6])),
            "early_stopping": [False, True, "never"][rng.integers(3)],
            "repetition_penalty": float(rng.choice([1.0, 1.0, 1.3])),
        },
    }


def _old_transformers(folder: Path, searches: list[dict[str, Any]]) -> list[list[tuple[list[int], float]]]:
    asked = [
        {
            "prompt": s["prompt"],
            "settings": {
                **s["settings"],
                "eos_token_id": s["stops"] or None,
                "bad_words_ids": [[_PAD]],
                "pad_token_id": _PAD,
            },
        }
        for s in searches
    ]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("diverse_worker.py")],
        input=json.dumps({"folder": str(folder), "searches": asked}),
        env={**os.environ, "PYTHONPATH": str(_OLD_TRANSFORMERS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["found"]


def _without_stop(tokens: list[int], stops: list[int]) -> list[int]:
    """transformers 4 writes its first end token whichever of them ended a sequence."""
    return next((tokens[:i] for i, token in enumerate(tokens) if token in stops), tokens)


@pytest.mark.parametrize("draws", [30, pytest.param(300, marks=pytest.mark.full)])
def test_drawn_diverse_searches(tiny, rng, draws):
    pair = tiny("llama-gqa")
    searches = [_draw(pair, rng) for _ in range(draws)]
    for s, expected in zip(searches, _old_transformers(pair.folder, searches), strict=True):
        made = pair.ft.generate(s["prompt"], stop_token_ids=s["stops"], bad_words=[[_PAD]], **s["settings"])
        rows = made if s["settings"]["num_return_sequences"] > 1 else [made]
        ours = [_without_stop(one.token_ids.tolist(), s["stops"]) for one in rows]
        theirs = [_without_stop(tokens, s["stops"]) for tokens, _ in expected]
        assert ours == theirs, f"{s}\nours {rows}\ntransformers' {expected}"
        for one, (_, score) in zip(rows, expected, strict=True):
            assert one.score == pytest.approx(score, rel=1e-4, abs=1e-5), str(s)
