"""Beam search: tokens and scores of every returned sequence equal transformers' over drawn settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from . import models
from .pair import Pair, draw_prompt

NAMES = ["llama-gqa", "qwen2-tied", "gemma2", "gpt2", "bloom", "t5-own-output", "bart-untied"]
# With these, every family and each of its recipes.
MORE_NAMES = ["qwen3", "gptj", "gpt-neox-sequential", "opt-350m", "mt5", "mbart", "marian-two-vocabularies"]


class _PresenceAndFrequency(transformers.LogitsProcessor):
    """Penalties that transformers lacks, from their formula, on what is new."""

    def __init__(self, prompt_length: int, presence: float, frequency: float) -> None:
        self.start, self.presence, self.frequency = prompt_length, presence, frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, ids in zip(scores, input_ids, strict=True):
            counts = torch.bincount(ids[self.start :], minlength=row.numel())
            row -= self.presence * (counts > 0) + self.frequency * counts
        return scores


class _Rounding(transformers.LogitsProcessor):
    """Noise as large as the rounding of accumulated scores: one unit in the last place of some tens is 4e-6, and more
    of the hundreds that a long and undecided search comes to."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        accumulated = input_ids.shape[1] * float(scores.max(-1).values.abs().max())
        return scores + max(3e-6, 2**-24 * accumulated) * torch.randn(scores.shape, generator=self.generator)


@dataclass
class Drawn:
    """A drawn search: prompts, and the settings as each library calls them."""

    prompts: list[list[int]]
    shared: dict[str, Any]
    stop_token_ids: list[int]
    bad_words: list[list[int]]
    presence: float = 0.0
    frequency: float = 0.0
    scores: str = "processed"
    pad_left: bool = False
    sequences: int = field(init=False)

    def __post_init__(self) -> None:
        self.sequences = self.shared["num_return_sequences"]

    def __str__(self) -> str:
        penalties = f"presence {self.presence}, frequency {self.frequency}"
        return f"{self.shared}, stop {self.stop_token_ids}, bad {self.bad_words}, {penalties}, prompts {self.prompts}"


def draw(pair: Pair, rng: np.random.Generator) -> Drawn:
    width = int(rng.choice([2, 2, 3, 4, 4, 5, 8, 16]))
    shared = {
        "num_beams": width,
        "num_return_sequences": int(rng.integers(1, width + 1)),
        "max_new_tokens": int(rng.integers(1, 25)),
        "length_penalty": float(rng.choice([1.0, 1.0, 0.0, 0.6, 2.0, -1.0])),
        "early_stopping": [False, True, "never"][rng.integers(3)],
    }
    # Processors that look at the prompt would see transformers' padding, so those prompts are not padded.
    history = rng.random() < 0.5
    prompts = [draw_prompt(rng, models.VOCAB, 1, 30) for _ in range(1 if history else rng.integers(1, 4))]
    said = pair.hf_greedy(prompts[0], 12).tokens
    stops = sorted(
        {int(t) for t in rng.choice(said, rng.integers(0, 3))} | set(rng.integers(3, pair.ft.config["vocab_size"], 1))
    )
    drawn = Drawn(prompts, shared, [int(t) for t in stops] if rng.random() < 0.8 else [], [], pad_left=not history)
    if rng.random() < 0.3:
        shared["min_new_tokens"] = int(rng.integers(0, shared["max_new_tokens"] + 1))
    if not history:
        return drawn
    if rng.random() < 0.4:
        shared["no_repeat_ngram_size"] = int(rng.integers(1, 4))
    if rng.random() < 0.4:
        shared["repetition_penalty"] = float(rng.choice([0.8, 1.2, 1.7]))
    if rng.random() < 0.4:
        drawn.bad_words = [[said[0]], said[1:3], [0]]
    if rng.random() < 0.3:
        drawn.presence, drawn.frequency = float(rng.normal()), float(rng.normal() / 2)
    return drawn


@torch.no_grad()
def hf_beams(
    pair: Pair, d: Drawn, hf: transformers.PreTrainedModel | None = None, *more: transformers.LogitsProcessor
) -> list[list[tuple]]:
    """(tokens, score, log-probabilities) of each returned sequence of each prompt."""
    hf = hf or pair.hf
    longest = max(map(len, d.prompts))
    ids = torch.zeros(len(d.prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    encoder = hf.config.is_encoder_decoder  # whose positions transformers counts from the padding on
    for row, prompt in enumerate(d.prompts):
        place = slice(0, len(prompt)) if encoder else slice(longest - len(prompt), longest)
        ids[row, place] = torch.tensor(prompt)
        mask[row, place] = 1
    start = 1 if encoder else longest
    processors = transformers.LogitsProcessorList()
    if d.presence or d.frequency:
        processors.append(_PresenceAndFrequency(start, d.presence, d.frequency))
    processors.extend(more)
    out = hf.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=d.stop_token_ids or None,
        bad_words_ids=d.bad_words or None,
        logits_processor=processors,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **d.shared,
    )
    # compute_transition_scores, which takes the encoder's vocabulary for the decoder's where they differ
    steps = out.scores if d.scores == "processed" else [logits.log_softmax(-1) for logits in out.logits]
    made = []
    for row, score, beams in zip(out.sequences[:, start:], out.sequences_scores, out.beam_indices, strict=True):
        tokens = row[: int((beams >= 0).sum())].tolist()
        logprobs = [float(steps[t][beams[t], token]) for t, token in enumerate(tokens)]
        made.append((tokens, float(score), np.array(logprobs, np.float32)))
    return [made[i : i + d.sequences] for i in range(0, len(made), d.sequences)]


def ft_beams(model: Any, d: Drawn) -> list[list[Any]]:
    made = model.generate(
        d.prompts,
        stop_token_ids=d.stop_token_ids,
        bad_words=d.bad_words or None,
        presence_penalty=d.presence,
        frequency_penalty=d.frequency,
        logprobs=d.scores,
        **d.shared,
    )
    return made if d.sequences > 1 else [[one] for one in made]


def same_tokens(ours: list[list[Any]], theirs: list[list[tuple]]) -> bool:
    return [[one.token_ids.tolist() for one in row] for row in ours] == [[one[0] for one in row] for row in theirs]


def ambiguous(pair: Pair, d: Drawn, theirs: list[list[tuple]]) -> bool:
    """Whether transformers itself decides differently when its scores are rounded a little differently: then two beams
    tie within float32's precision, and the draw proves nothing."""
    expected = [[one[0] for one in row] for row in theirs]
    double = models.oracle(pair.variant, pair.folder).double()
    found = ([[one[0] for one in row] for row in hf_beams(pair, d, double, _Rounding(seed))] for seed in range(16))
    return any(tokens != expected for tokens in found)


def check(pair: Pair, d: Drawn) -> bool:
    """Fails unless tokens and scores are transformers'; False when the draw proves nothing."""
    ours, theirs = ft_beams(pair.ft, d), hf_beams(pair, d)
    if not same_tokens(ours, theirs) and ambiguous(pair, d, theirs):
        return False
    assert same_tokens(ours, theirs), f"{d}\nours {ours}\ntransformers' {theirs}"
    for row, expected in zip(ours, theirs, strict=True):
        for one, (tokens, score, logprobs) in zip(row, expected, strict=True):
            assert one.score == pytest.approx(score, rel=1e-4, abs=1e-5), str(d)
            np.testing.assert_allclose(one.logprobs, logprobs, rtol=1e-4, atol=1e-5, err_msg=str(d))
            ended = bool(tokens) and tokens[-1] in d.stop_token_ids
            assert one.finish_reason == ("stop" if ended else "length"), str(d)
    return True


def check_draws(pair: Pair, rng: np.random.Generator, draws: int) -> None:
    unclear = 0
    for _ in range(draws):
        d = draw(pair, rng)
        d.scores = str(rng.choice(["raw", "processed"]))
        unclear += not check(pair, d)
    assert unclear <= 1 + draws // 50


@pytest.mark.parametrize("name", NAMES)
def test_drawn_searches(tiny, rng, name):
    check_draws(tiny(name), rng, 15)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES + MORE_NAMES)
def test_many_drawn_searches(tiny, rng, name):
    check_draws(tiny(name), rng, 100)


@pytest.mark.parametrize("name", [*models.DECODERS, *models.GENERATORS])
def test_every_variant(tiny, rng, name):
    """Sixty-four steps of four beams, on every model that the other tests know."""
    shared = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 64, "early_stopping": False}
    for _ in range(4):  # a draw whose beams tie proves nothing
        prompts = [draw_prompt(rng, models.VOCAB) for _ in range(2)]
        if check(tiny(name), Drawn(prompts, shared, [], [], pad_left=True)):
            return
    pytest.fail("beams tied in four draws")


def _allowed(prompt: int, ids: Any) -> list[int]:
    """Forty tokens that depend on the one before and on the prompt's number."""
    return [(7 * int(ids[-1]) + 11 * prompt + i) % models.VOCAB for i in range(40)]


@pytest.mark.parametrize("width", [1, 4])
def test_prefix_constraints(tiny, rng, width):
    pair = tiny("llama-gqa")
    prompts = [draw_prompt(rng, models.VOCAB, 5, 5) for _ in range(3)]
    settings = {"num_beams": width, "max_new_tokens": 12}
    expected = pair.hf.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(3, 5, dtype=torch.long),
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        prefix_allowed_tokens_fn=_allowed,
        **settings,
    )
    ours = pair.ft.generate(prompts, stop_token_ids=[], prefix_allowed_tokens_fn=_allowed, **settings)
    assert [one.token_ids.tolist() for one in ours] == expected[:, 5:].tolist()
    for prompt, one in enumerate(ours):
        previous = prompts[prompt][-1]
        for token in one.token_ids.tolist():
            assert token in _allowed(prompt, [previous])
            previous = token


def test_the_widest_search(tiny, rng):
    """128 beams: more candidates than the vocabulary has tokens, so the first steps have fewer beams than that."""
    pair = tiny("llama-gqa")
    d = Drawn(
        [draw_prompt(rng, models.VOCAB)], {"num_beams": 128, "num_return_sequences": 128, "max_new_tokens": 6}, [], []
    )
    ours, theirs = ft_beams(pair.ft, d), hf_beams(pair, d)
    # Among 128 neighbours some tie within rounding, so the sequences are compared as a set, the scores in order.
    scores = np.array([one.score for one in ours[0]]), np.array([score for _, score, _ in theirs[0]])
    np.testing.assert_allclose(*scores, rtol=1e-5)
    found = {tuple(one.token_ids.tolist()) for one in ours[0]}
    assert len(found) == 128
    assert len(found & {tuple(tokens) for tokens, _, _ in theirs[0]}) >= 126
