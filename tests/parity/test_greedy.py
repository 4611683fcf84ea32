"""Greedy tokens equal transformers', for prompts of unequal length that share a running batch, and their
log-probabilities and ends too."""

import json

import numpy as np
import pytest
import torch

from . import models
from .compare import BOUNDS, INT8, assert_close, assert_greedy, assert_same, assert_same_generation
from .pair import draw_prompt

NEW = 72


def _prompts(rng, count=5):
    return [[int(rng.integers(3, models.VOCAB))]] + [draw_prompt(rng, models.VOCAB, 2, 60) for _ in range(count - 1)]


@pytest.mark.parametrize("name", models.DECODERS)
def test_one_prompt(tiny, rng, name):
    pair = tiny(name)
    prompt = draw_prompt(rng, models.VOCAB)
    reference = pair.hf_greedy(prompt, NEW)
    ours = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=[])
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, name)
    assert ours.finish_reason == "length"


@pytest.mark.parametrize("name", models.DECODERS_SHORT)
def test_a_batch_of_unequal_prompts(tiny, rng, name):
    pair = tiny(name)
    prompts = _prompts(rng)
    together = pair.ft.generate(prompts, max_new_tokens=NEW, stop_token_ids=[])
    for prompt, ours in zip(prompts, together, strict=True):
        reference = pair.hf_greedy(prompt, NEW)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"{name}, prompt of {len(prompt)}")
        alone = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=[])
        assert np.array_equal(alone.token_ids, ours.token_ids)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", INT8])
@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window"])
def test_tokens_do_not_depend_on_the_batch_or_the_steps(tiny, rng, name, dtype):
    """To the bit in every dtype: log-probabilities alone, among others, and with prompts cut in small chunks."""
    pair = tiny(name)
    prompts = _prompts(rng, 7)
    settings = {"max_new_tokens": 24, "stop_token_ids": [], "logprobs": True}
    together = pair.load(dtype=dtype).generate(prompts, **settings)
    chunked = pair.load(dtype=dtype, max_tokens_per_step=5, max_batch_size=3).generate(prompts, **settings)
    model = pair.load(dtype=dtype, threads=1)
    for prompt, a, b in zip(prompts, together, chunked, strict=True):
        alone = model.generate(prompt, **settings)
        for other in (a, b):
            assert_same_generation(alone, other, BOUNDS[dtype])


@pytest.mark.parametrize("name", models.DECODERS_SHORT)
def test_prompt_logprobs(tiny, rng, name):
    """Of a prompt in one chunk or many, one alone or several, before any kind of generation, kept pages or none."""
    pair = tiny(name)
    model = pair.load(max_tokens_per_step=int(rng.integers(3, 40)))
    prompts = [draw_prompt(rng, models.VOCAB, low, 150) for low in (1, 2, 70, 130)]
    for settings in ({}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2, "seed": 1}):
        several = model.generate(prompts, max_new_tokens=3, stop_token_ids=[], prompt_logprobs=True, **settings)
        for prompt, made in zip(prompts, several, strict=True):
            logits = pair.hf_forward(prompt)["logits"]
            every = torch.log_softmax(torch.tensor(logits), -1).numpy()
            expected = every[np.arange(len(prompt) - 1), prompt[1:]]
            for ours in made if isinstance(made, list) else [made]:
                assert ours.prompt_logprobs.shape == (len(prompt),)
                assert np.isnan(ours.prompt_logprobs[0])
                if len(prompt) > 1:
                    assert np.abs(ours.prompt_logprobs[1:] - expected).max() <= 1e-4 * np.abs(logits).max()
    assert model.session().stats()["prompt_tokens_reused"] == 0  # every logit was wanted
    assert model.generate(prompts[0], max_new_tokens=1).prompt_logprobs is None
    whole = pair.load().generate(prompts, max_new_tokens=3, stop_token_ids=[], prompt_logprobs=True)
    cut = model.generate(prompts, max_new_tokens=3, stop_token_ids=[], prompt_logprobs=True)
    for a, b in zip(whole, cut, strict=True):
        assert_same(a.prompt_logprobs, b.prompt_logprobs)


@pytest.mark.parametrize("name", models.DECODERS_SHORT)
def test_logprobs(tiny, rng, name):
    pair = tiny(name)
    prompt = draw_prompt(rng, models.VOCAB)
    ours = pair.ft.generate(prompt, max_new_tokens=24, stop_token_ids=[], logprobs=True)
    whole = pair.hf_forward([*prompt, *ours.token_ids.tolist()])["logits"][len(prompt) - 1 : -1]
    every = torch.log_softmax(torch.tensor(whole), -1).numpy()
    expected = every[np.arange(24), ours.token_ids]
    # The bound is relative to the logits, whose rounding a log-probability inherits.
    assert np.abs(ours.logprobs - expected).max() <= 1e-4 * np.abs(whole).max()
    assert ours.score == pytest.approx(float(expected.sum()) / 24, abs=1e-3)


def test_logprobs_are_of_the_unprocessed_distribution(tiny, rng):
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    settings = {"do_sample": True, "temperature": 3.0, "top_k": 20, "repetition_penalty": 1.5, "seed": 7}
    ours = pair.ft.generate(prompt, max_new_tokens=24, stop_token_ids=[], logprobs=True, **settings)
    whole = pair.hf_forward([*prompt, *ours.token_ids.tolist()])["logits"][len(prompt) - 1 : -1]
    expected = torch.log_softmax(torch.tensor(whole), -1).numpy()[np.arange(24), ours.token_ids]
    assert np.abs(ours.logprobs - expected).max() <= 1e-4 * np.abs(whole).max()


def test_forward_equals_steps(tiny, rng):
    """What generation computes through the cache is what one pass over the whole gives, to the bit."""
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    seen = []

    def record(tokens, logits):
        seen.append((len(tokens), logits.copy()))

    ours = pair.ft.generate(prompt, max_new_tokens=12, stop_token_ids=[], logits_processor=record)
    whole = pair.ft.forward([[*prompt, *ours.token_ids.tolist()]]).logits.numpy()[0]
    for length, logits in seen:
        assert_same(logits, whole[length - 1], f"logits after {length} tokens")


def _end_token(pair, prompt):
    """A token that greedy search meets for the first time after a few steps."""
    tokens = pair.hf_greedy(prompt, NEW).tokens
    for step in range(5, NEW):
        if tokens[step] not in tokens[:step]:
            return tokens[step], tokens[: step + 1]
    pytest.skip("the drawn continuation repeats itself from the start")


def test_stop_tokens(tiny, rng):
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    end, until = _end_token(pair, prompt)
    other = next(t for t in range(models.VOCAB) if t not in until)
    expected = pair.hf_greedy(prompt, NEW, eos_token_id=[end, other]).tokens
    ours = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=[end, other])
    assert ours.token_ids.tolist() == expected == until
    assert ours.finish_reason == "stop"
    exact = pair.ft.generate(prompt, max_new_tokens=len(until), stop_token_ids=[end])
    assert exact.finish_reason == "stop"  # ended by the token, not by the length it also reached


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
def test_end_tokens_of_the_checkpoint(tiny, rng, where, many):
    """generation_config.json goes before config.json, as in transformers."""
    pair = tiny("llama-gqa", tag=f"{where}-{many}")
    prompt = draw_prompt(rng, models.VOCAB)
    end, until = _end_token(pair, prompt)
    other = next(t for t in range(models.VOCAB) if t not in until)
    for name in ("config.json", "generation_config.json"):
        path = pair.folder / name
        values = json.loads(path.read_text()) if path.exists() else {}
        token = end if name == where else other
        values["eos_token_id"] = [token, other] if many else token
        path.write_text(json.dumps(values))
    if where == "config.json":
        (pair.folder / "generation_config.json").unlink()
    ours = pair.load().generate(prompt, max_new_tokens=NEW)
    assert ours.token_ids.tolist() == until
    assert ours.finish_reason == "stop"


def test_last_position(tiny, rng):
    """A model that reaches its last position ends with "length", having used every position."""
    pair = tiny("llama-gqa", max_position_embeddings=48)
    prompt = draw_prompt(rng, models.VOCAB, 20, 20)
    ours = pair.ft.generate(prompt, max_new_tokens=500, stop_token_ids=[])
    assert ours.finish_reason == "length"
    assert len(ours.token_ids) in (28, 29)  # the token after the last position may be kept: it is never computed on
    reference = pair.hf_greedy(prompt, len(ours.token_ids))
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, "up to the last position")
    assert_close(pair.ft.forward([prompt]).logits.numpy()[0], pair.hf_forward(prompt)["logits"], "afterwards")
