"""Sampling: the drawn distribution is the exact one, and a seed gives the same tokens whatever runs beside it.

The exact distribution comes from transformers' logits and its own warpers. Two tests of each setting: many first
tokens, counted (Pearson's chi-squared); and one long continuation, every token of which is put through its own
conditional distribution, which must give uniform numbers (the probability integral transform).
"""

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from . import models
from .compare import assert_counts
from .pair import draw_prompt

VOCAB = 23
SETTINGS = {
    "plain": {},
    "hot": {"temperature": 1.7},
    "cold": {"temperature": 0.4},
    "top-k": {"top_k": 5},
    "top-k-1": {"top_k": 1},
    "top-k-all": {"top_k": 1000},
    "top-p": {"top_p": 0.7},
    "top-p-small": {"top_p": 0.01},
    "min-p": {"min_p": 0.15},
    "all": {"temperature": 1.3, "top_k": 9, "top_p": 0.85, "min_p": 0.05},
    "hot-top-p": {"temperature": 2.5, "top_p": 0.5},
}


def exact(logits: np.ndarray, settings: dict) -> np.ndarray:
    """The distribution that transformers would draw from: [rows, vocab] -> [rows, vocab]."""
    warpers = LogitsProcessorList()
    if "temperature" in settings:
        warpers.append(TemperatureLogitsWarper(settings["temperature"]))
    if settings.get("top_k"):
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        warpers.append(MinPLogitsWarper(settings["min_p"]))
    rows = torch.tensor(logits, dtype=torch.float32)
    return torch.softmax(warpers(None, rows).double(), -1).numpy()


def _near_edge(logits: np.ndarray, settings: dict) -> bool:
    """Whether rounding of the logits may move a token in or out of what is kept."""
    kept = exact(logits, settings) > 0
    scale = np.abs(logits).max()
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, (8, logits.size)) * scale
    return any(((exact(logits + n[None], settings) > 0) != kept).any() for n in noise)


def _draw_settings(settings):
    return {"do_sample": True, "top_k": 0, "stop_token_ids": [], **settings}


@pytest.mark.parametrize("kind", SETTINGS)
def test_first_token_counts(tiny, rng, kind):
    settings = SETTINGS[kind]
    pair = tiny("llama-gqa", vocab_size=VOCAB)
    for _ in range(20):
        prompt = draw_prompt(rng, VOCAB, 1, 12)
        logits = pair.hf_forward(prompt)["logits"][-1:]
        if not _near_edge(logits, settings):
            break
    count = 3000
    drawn = pair.ft.generate(
        prompt,
        max_new_tokens=1,
        num_return_sequences=count,
        seed=int(rng.integers(2**40)),
        **_draw_settings(settings),
    )
    counts = np.bincount([int(g.token_ids[0]) for g in drawn], minlength=VOCAB)
    assert_counts(counts, exact(logits, settings)[0], kind)


@pytest.mark.parametrize("kind", SETTINGS)
def test_continuations(tiny, rng, kind):
    settings = SETTINGS[kind]
    pair = tiny("llama-gqa", vocab_size=VOCAB, max_position_embeddings=2048)
    prompts = [draw_prompt(rng, VOCAB, 1, 12) for _ in range(3)]
    cells = np.zeros(20)
    model = pair.ft
    drawn = model.generate(prompts, max_new_tokens=700, seed=int(rng.integers(2**40)), **_draw_settings(settings))
    for prompt, generation in zip(prompts, drawn, strict=True):
        tokens = generation.token_ids
        assert len(tokens) == 700
        logits = pair.hf_forward([*prompt, *tokens.tolist()])["logits"][len(prompt) - 1 : -1]
        probabilities = exact(logits, settings)
        rows = np.arange(700)
        # One row in thousands has a token within rounding of a cut: those rows prove nothing either way.
        impossible = np.flatnonzero(probabilities[rows, tokens] == 0)
        assert all(_near_edge(logits[i : i + 1], settings) for i in impossible), f"{kind}: drew what is cut off"
        assert len(impossible) <= 3
        below = np.cumsum(probabilities, -1)[rows, tokens] - probabilities[rows, tokens]
        uniform = below + rng.random(700) * probabilities[rows, tokens]
        cells += np.histogram(np.clip(uniform, 0, 1), bins=20, range=(0, 1))[0]
    assert_counts(cells, np.full(20, 0.05), f"{kind}: conditional distributions")


@pytest.mark.parametrize("name", ["llama-gqa", "gemma3"])
def test_seeds_do_not_depend_on_the_batch(tiny, rng, name):
    pair = tiny(name)
    prompts = [draw_prompt(rng, models.VOCAB) for _ in range(6)]
    settings = {"max_new_tokens": 32, "do_sample": True, "temperature": 1.5, "top_k": 0, "stop_token_ids": []}
    alone = [pair.ft.generate(p, seed=11, **settings).token_ids.tolist() for p in prompts]
    together = [g.token_ids.tolist() for g in pair.ft.generate(prompts, seed=11, **settings)]
    order = rng.permutation(6)
    shuffled = [g.token_ids.tolist() for g in pair.ft.generate([prompts[i] for i in order], seed=11, **settings)]
    assert alone == together == [shuffled[list(order).index(i)] for i in range(6)]
    small = pair.load(max_batch_size=2, max_tokens_per_step=4)
    assert [g.token_ids.tolist() for g in small.generate(prompts, seed=11, **settings)] == alone
    assert [g.token_ids.tolist() for g in pair.ft.generate(prompts, seed=12, **settings)] != alone


def test_returned_sequences_are_seeds_in_a_row(tiny, rng):
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    settings = {"max_new_tokens": 16, "do_sample": True, "top_k": 0, "stop_token_ids": []}
    several = pair.ft.generate(prompt, num_return_sequences=4, seed=5, **settings)
    for i, generation in enumerate(several):
        assert np.array_equal(generation.token_ids, pair.ft.generate(prompt, seed=5 + i, **settings).token_ids)
    assert len({tuple(g.token_ids.tolist()) for g in several}) > 1


def test_no_seed_draws_one(tiny, rng):
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    settings = {"max_new_tokens": 24, "do_sample": True, "temperature": 2.0, "top_k": 0, "stop_token_ids": []}
    drawn = {tuple(pair.ft.generate(prompt, **settings).token_ids.tolist()) for _ in range(3)}
    assert len(drawn) == 3
