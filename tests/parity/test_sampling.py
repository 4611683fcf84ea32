"""Sampling: the drawn distribution is the exact one, and a seed gives the same tokens whatever runs beside it.

The exact distribution comes from transformers' logits and its own warpers. Two tests of each setting: many first
tokens, counted (Pearson's chi-squared); and one long continuation, every token of which is put through its own
conditional distribution, which must give uniform numbers (the probability integral transform).
"""

import itertools
import threading

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
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
    "typical-p": {"typical_p": 0.6},
    "typical-p-small": {"typical_p": 0.02},
    "all": {"temperature": 1.3, "top_k": 9, "top_p": 0.85, "min_p": 0.05},
    "all-and-typical": {"temperature": 1.6, "top_k": 14, "top_p": 0.95, "min_p": 0.03, "typical_p": 0.8},
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
    if "typical_p" in settings:
        warpers.append(TypicalLogitsWarper(settings["typical_p"]))
    rows = torch.tensor(logits, dtype=torch.float32)
    return torch.softmax(warpers(None, rows).double(), -1).numpy()


def _near_edge(logits: np.ndarray, settings: dict) -> bool:
    """Whether rounding of the logits may move a token in or out of what is kept."""
    kept = exact(logits, settings) > 0
    scale = np.abs(logits).max()
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, (8, logits.size)) * scale
    return any(((exact(logits + n[None], settings) > 0) != kept).any() for n in noise)


def _seed(rng: np.random.Generator) -> int:
    """One for each sequence: the prompts of one call share its seed, and with it their random numbers."""
    return int(rng.integers(2**40))


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
    seed, several = int(rng.integers(2**40)), 125
    counts = np.zeros(VOCAB)
    for first in range(seed, seed + 3000, several):
        drawn = pair.ft.generate(
            prompt, max_new_tokens=1, num_return_sequences=several, seed=first, **_draw_settings(settings)
        )
        counts += np.bincount([int(g.token_ids[0]) for g in drawn], minlength=VOCAB)
    assert_counts(counts, exact(logits, settings)[0], kind)


@pytest.mark.parametrize("kind", SETTINGS)
def test_continuations(tiny, rng, kind):
    settings = SETTINGS[kind]
    pair = tiny("llama-gqa", vocab_size=VOCAB, max_position_embeddings=2048)
    prompts = [draw_prompt(rng, VOCAB, 1, 12) for _ in range(3)]
    cells = np.zeros(20)
    model = pair.ft
    for prompt in prompts:
        tokens = model.generate(prompt, max_new_tokens=700, seed=_seed(rng), **_draw_settings(settings)).token_ids
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


def test_top_p_decays_and_is_reset(tiny, rng):
    """Each token of a continuation lies in the nucleus of FasterTransformer's decayed top_p, and is drawn from it."""
    pair = tiny("llama-gqa", vocab_size=VOCAB, max_position_embeddings=2048)
    reset, first, decay, least, length = int(rng.integers(3, VOCAB)), 0.95, 0.8, 0.25, 700
    cells = np.zeros(20)
    prompts = [draw_prompt(rng, VOCAB, 1, 12) for _ in range(3)]
    settings = {"top_p": first, "top_p_decay": decay, "top_p_min": least, "top_p_reset_id": reset, "temperature": 2.0}
    # The prompt's tokens reset nothing: the first nucleus is top_p itself in any case.
    for prompt in prompts:
        tokens = pair.ft.generate(prompt, max_new_tokens=length, seed=_seed(rng), **_draw_settings(settings)).token_ids
        logits = pair.hf_forward([*prompt, *tokens.tolist()])["logits"][len(prompt) - 1 : -1]
        top_p, impossible = first, 0
        for row, token in zip(logits, tokens, strict=True):
            probabilities = exact(row[None], {"temperature": 2.0, "top_p": top_p})[0]
            if probabilities[token] == 0:
                impossible += 1
                assert _near_edge(row[None], {"temperature": 2.0, "top_p": top_p})
            below = probabilities[:token].sum() + rng.random() * probabilities[token]
            cells[min(19, int(below * 20))] += 1
            top_p = first if token == reset else max(top_p * decay, least)
        assert impossible <= 3
    assert_counts(cells, np.full(20, 0.05), "decayed nuclei")


def test_sampled_beams_follow_the_exact_distribution(tiny, rng):
    """Two steps of two beams: each step draws candidates without replacement from softmax of the accumulated
    log-probabilities, the best two of them go on, and of the last step the first two drawn are returned."""
    vocab = 7
    pair = tiny("llama-gqa", vocab_size=vocab)
    prompt = draw_prompt(rng, vocab, 1, 12)

    def log_probs(ids):
        return torch.log_softmax(torch.tensor(pair.hf_forward(ids)["logits"][-1]).double() / 1.5, -1).numpy()

    first = log_probs(prompt)
    after = {a: log_probs([*prompt, a]) for a in range(vocab)}
    running: dict[tuple, float] = {}
    for drawn in itertools.permutations(range(vocab), 4):
        chance, left = 1.0, 1.0
        for token in drawn:
            chance *= np.exp(first[token]) / left
            left -= np.exp(first[token])
        pair_of = tuple(sorted(sorted(drawn, key=lambda t: -first[t])[:2]))
        running[pair_of] = running.get(pair_of, 0.0) + chance
    outcomes: dict[frozenset, float] = {}
    for beams, chance in running.items():
        totals = {(a, b): float(np.exp(first[a] + after[a][b])) for a in beams for b in range(vocab)}
        whole = sum(totals.values())
        for one, other in itertools.permutations(totals, 2):
            p = totals[one] / whole * totals[other] / (whole - totals[one])
            key = frozenset((one, other))
            outcomes[key] = outcomes.get(key, 0.0) + chance * p
    assert sum(outcomes.values()) == pytest.approx(1)
    names = list(outcomes)
    counts = np.zeros(len(names))
    settings = {"num_beams": 2, "num_return_sequences": 2, "max_new_tokens": 2, "temperature": 1.5}
    for _ in range(2000):
        drawn = pair.ft.generate(prompt, seed=int(rng.integers(2**60)), **_draw_settings(settings))
        counts[names.index(frozenset(tuple(g.token_ids.tolist()) for g in drawn))] += 1
    assert_counts(counts, np.array(list(outcomes.values())), "sampled beams")


def test_seeds_do_not_depend_on_neighbours_of_every_kind(tiny, rng):
    """A sampled request beside beams, sampled beams, greedy search and sampled groups, in several compositions."""
    pair = tiny("gemma2")
    model = pair.load(max_batch_size=12, max_tokens_per_step=16)
    prompts = [draw_prompt(rng, models.VOCAB) for _ in range(5)]
    sampled = {"do_sample": True, "temperature": 1.5, "top_k": 0}
    kinds = [
        {**sampled, "seed": 3},
        {"num_beams": 4},
        {**sampled, "seed": 4, "num_beams": 3, "num_return_sequences": 2},
        {},
        {**sampled, "seed": 5, "num_return_sequences": 3, "typical_p": 0.9},
    ]
    common = {"max_new_tokens": 20, "stop_token_ids": []}

    def tokens(made):
        return [g.token_ids.tolist() for g in (made if isinstance(made, list) else [made])]

    alone = [tokens(pair.ft.generate(p, **k, **common)) for p, k in zip(prompts, kinds, strict=True)]
    for _ in range(4):
        order = rng.permutation(5)[: rng.integers(2, 6)]
        found = {}

        def run(index, found=found):
            found[index] = tokens(model.generate(prompts[index], **kinds[index], **common))

        threads = [threading.Thread(target=run, args=(int(i),)) for i in order]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {int(i): alone[i] for i in order}


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
