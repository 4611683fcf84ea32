"""A model on several ranks gives what it gives on one: every family, layers split and dealt out to stages.

Two splits of each are drawn, all of them under `-m full`. Sums over ranks are rounded otherwise than one rank's, so
that a choice between two tokens that are nearly as good may fall the other way: then the request is drawn anew, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pyft

from . import models
from .compare import assert_close, assert_greedy
from .pair import Pair, draw_prompt

SPLITS = [(t, p) for t, p in itertools.product((1, 2, 3, 4), (1, 2, 3)) if t * p > 1]
BOUND = 1e-5
NEW = 24


def allowed(pair: Pair) -> list[tuple[int, int]]:
    """The splits that the model's heads and layers take; key and value heads need not divide."""
    c = pair.ft.config
    heads = [c["num_heads"], c.get("encoder_num_heads") or c["num_heads"]]
    return [(t, p) for t, p in SPLITS if all(h % t == 0 for h in heads) and p <= c["num_layers"]]


def on_ranks(pair: Pair, rng: np.random.Generator, count: int | None) -> Iterator[tuple[Any, str]]:
    splits = allowed(pair)
    assert splits
    drawn = range(len(splits)) if count is None else rng.permutation(len(splits))[:count]
    for tensor, stages in (splits[i] for i in drawn):
        with pair.load(tensor_parallel=tensor, pipeline_parallel=stages) as model:
            assert len(model.ranks) == tensor * stages
            yield model, f"on {tensor} x {stages} ranks"


def forward_inputs(pair: Pair, rng: np.random.Generator) -> tuple[list[list[int]], dict[str, Any]]:
    c = pair.ft.config
    rows = [draw_prompt(rng, c.get("encoder_vocab_size") or c["vocab_size"]) for _ in range(3)]
    if not c.get("is_encoder_decoder"):
        return rows, {}
    return rows, {"decoder_input_ids": [draw_prompt(rng, c["vocab_size"]) for _ in rows]}


def check_outputs(pair: Pair, rng: np.random.Generator, count: int | None, name: str) -> None:
    rows, more = forward_inputs(pair, rng)
    alone = pair.ft.forward(rows, **more)
    for model, where in on_ranks(pair, rng, count):
        shared = model.forward(rows, **more)
        for output in ("logits", "last_hidden_state", "encoder_last_hidden_state", "pooler_output"):
            expected, found = getattr(alone, output), getattr(shared, output)
            assert (expected is None) == (found is None)
            if expected is not None:
                assert_close(found.numpy(), expected.numpy(), f"{name} {where}: {output}", BOUND)


@pytest.mark.parametrize("name", models.VARIANTS)
def test_outputs(tiny, rng, name):
    check_outputs(tiny(name), rng, 2, name)


@pytest.mark.full
@pytest.mark.parametrize("name", models.VARIANTS)
def test_outputs_at_every_split(tiny, rng, name):
    check_outputs(tiny(name), rng, None, name)


@pytest.mark.parametrize("name", [*models.DECODERS, *models.GENERATORS])
def test_greedy(tiny, rng, name):
    pair = tiny(name)
    c = pair.ft.config
    prompt = draw_prompt(rng, c.get("encoder_vocab_size") or c["vocab_size"])
    reference = pair.hf_greedy(prompt, NEW)
    for model, where in on_ranks(pair, rng, 1):
        ours = model.generate(prompt, max_new_tokens=NEW, stop_token_ids=[])
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"{name} {where}")


def tokens(generations: Any) -> list[list[int]]:
    one = generations if isinstance(generations, list) else [generations]
    return [t for g in one for t in (tokens(g) if isinstance(g, list) else [g.token_ids.tolist()])]


KINDS: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "sampled": lambda rng: {"do_sample": True, "top_k": 20, "temperature": 0.8, "seed": int(rng.integers(1 << 31))},
    "nucleus": lambda rng: {"do_sample": True, "top_k": 0, "top_p": 0.7, "seed": int(rng.integers(1 << 31))},
    "samples": lambda rng: {"do_sample": True, "num_return_sequences": 3, "seed": int(rng.integers(1 << 31))},
    "beams": lambda rng: {"num_beams": int(rng.integers(2, 5))},
    "penalised": lambda rng: {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("name", [*models.DECODERS_SHORT, "gptj", "bloom", *models.ENCODER_DECODERS_SHORT])
def test_every_way_to_choose(tiny, rng, name):
    pair = tiny(name)
    vocabulary = pair.ft.config.get("encoder_vocab_size") or pair.ft.config["vocab_size"]
    for model, where in on_ranks(pair, rng, 1):
        for kind, draw in KINDS.items():
            for attempt in range(2):
                prompts = [draw_prompt(rng, vocabulary) for _ in range(3)]
                settings = {"max_new_tokens": NEW, "stop_token_ids": [], **draw(rng)}
                alone, shared = (tokens(m.generate(prompts, **settings)) for m in (pair.ft, model))
                if alone == shared:
                    break
                assert attempt == 0, f"{name} {where}, {kind}: {shared} in place of {alone}"


@pytest.mark.parametrize("name", ["llama-gqa", "t5"])
def test_the_same_to_the_bit_in_any_company(tiny, rng, name):
    pair = tiny(name)
    prompts = [draw_prompt(rng, models.VOCAB) for _ in range(6)]
    settings = {"max_new_tokens": NEW, "stop_token_ids": [], "logprobs": True}
    for model, where in on_ranks(pair, rng, 2):
        together = model.generate(prompts, **settings)
        for prompt, shared in zip(prompts, together, strict=True):
            alone = model.generate(prompt, **settings)
            assert np.array_equal(alone.token_ids, shared.token_ids), where
            assert np.array_equal(alone.logprobs, shared.logprobs), where


def test_what_cannot_be_split_is_refused(tiny):
    folder = tiny("llama-gqa").folder
    for settings, told in (
        ({"tensor_parallel": 3}, "tensor_parallel is 3, by which the model's 4 heads that read 2 .* are 2 and 4"),
        ({"pipeline_parallel": 40}, "pipeline_parallel is 40, but there are 3 layers"),
        ({"tensor_parallel": 65}, "from 1 to 64"),
        ({"tensor_parallel": 2, "device": ["cpu"] * 3}, "3 devices"),
    ):
        with pytest.raises(ValueError, match=told):
            pyft.load(folder, **({"device": "cpu"} | settings))
