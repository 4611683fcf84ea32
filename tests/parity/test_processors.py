"""Settings that change the logits: greedy tokens equal transformers' under each of them and all together."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from . import models
from .compare import assert_greedy
from .pair import draw_prompt

NEW = 64
NAMES = ["llama-gqa", "qwen2-tied"]  # the tied one repeats itself, so that the settings have work to do


def _loop_prompt(rng):
    """A prompt with repetition in it: n-grams and penalties count the prompt too."""
    part = draw_prompt(rng, models.VOCAB, 3, 6)
    return part + part + draw_prompt(rng, models.VOCAB, 1, 8) + part


def _check(pair, prompt, ours_settings, hf_settings, what, must_differ=True):
    reference = pair.hf_greedy(prompt, NEW, **hf_settings)
    ours = pair.ft.generate([prompt], max_new_tokens=NEW, stop_token_ids=[], **ours_settings)[0]
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, what)
    if must_differ:
        assert reference.tokens != pair.hf_greedy(prompt, NEW).tokens, f"{what}: the setting did nothing"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("penalty", [1.3, 2.5, 0.7])
def test_repetition_penalty(tiny, rng, name, penalty):
    settings = {"repetition_penalty": penalty}
    _check(tiny(name), _loop_prompt(rng), settings, settings, f"repetition_penalty {penalty}", penalty > 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_repeat_ngram(tiny, rng, name, size):
    settings = {"no_repeat_ngram_size": size}
    prompt = _loop_prompt(rng)
    _check(tiny(name), prompt, settings, settings, f"no_repeat_ngram_size {size}", must_differ=size == 1)
    tokens = tiny(name).ft.generate([prompt], max_new_tokens=NEW, stop_token_ids=[], **settings)[0].token_ids
    whole = [*prompt, *tokens.tolist()]
    new_grams = [tuple(whole[i : i + size]) for i in range(len(prompt) - size + 1, len(whole) - size + 1)]
    all_grams = [tuple(whole[i : i + size]) for i in range(len(whole) - size + 1)]
    assert all(all_grams.count(gram) == 1 for gram in new_grams)


@pytest.mark.parametrize("name", NAMES)
def test_bad_words(tiny, rng, name):
    """Single tokens, and sequences whose last token is banned after the others, the prompt's included."""
    pair = tiny(name)
    prompt = draw_prompt(rng, models.VOCAB, 4, 20)
    words = []
    for _ in range(4):  # ban what it would say, again and again
        said = pair.hf_greedy(prompt, 12, bad_words_ids=words or None).tokens
        words += [[said[0]], said[2:4], said[5:8]]
        words += [[prompt[-1], said[0]]]
    words = [list(w) for w in dict.fromkeys(map(tuple, words))]
    _check(pair, prompt, {"bad_words": words}, {"bad_words_ids": words}, "bad words")


def test_a_stop_token_is_no_bad_word(tiny, rng):
    """As in transformers: an end token among the bad words still ends the text."""
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    said = pair.hf_greedy(prompt, NEW).tokens
    words = [[said[0]], [said[4]]]
    reference = pair.hf_greedy(prompt, NEW, eos_token_id=[said[4]], bad_words_ids=words)
    ours = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=[said[4]], bad_words=words)
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, "a stop token among the bad words")


@pytest.mark.parametrize("minimum", [1, 7, 30])
def test_min_new_tokens(tiny, rng, minimum):
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    said = pair.hf_greedy(prompt, NEW).tokens
    ends = [said[0], said[min(9, NEW - 1)]]
    reference = pair.hf_greedy(prompt, NEW, eos_token_id=ends, min_new_tokens=minimum)
    ours = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=ends, min_new_tokens=minimum)
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"min_new_tokens {minimum}")
    assert len(ours.token_ids) > minimum
    assert ours.finish_reason == ("stop" if reference.tokens[-1] in ends else "length")


def test_all_together(tiny, rng):
    """The order of the processors is transformers'."""
    pair = tiny("qwen2-tied")
    for _ in range(3):
        prompt = _loop_prompt(rng)
        said = pair.hf_greedy(prompt, NEW).tokens
        shared = {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 20}
        words, ends = [[said[0]], said[3:5]], [said[1], said[10]]
        reference = pair.hf_greedy(prompt, NEW, eos_token_id=ends, bad_words_ids=words, **shared)
        ours = pair.ft.generate(prompt, max_new_tokens=NEW, stop_token_ids=ends, bad_words=words, **shared)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, "all processors")


def _penalised(pair, prompt, presence, frequency):
    """Greedy search by the formula: logit - presence * (count > 0) - frequency * count, over new tokens only."""
    tokens, scores = [], []
    for _ in range(NEW):
        logits = pair.hf_forward([*prompt, *tokens])["logits"][-1].astype(np.float64)
        counts = np.bincount(tokens, minlength=logits.size) if tokens else np.zeros(logits.size)
        logits = logits - presence * (counts > 0) - frequency * counts
        scores.append(logits)
        tokens.append(int(logits.argmax()))
    return tokens, np.array(scores)


@pytest.mark.parametrize(("presence", "frequency"), [(0.8, 0.0), (0.0, 0.4), (0.5, 0.25), (-0.5, 0.1)])
def test_presence_and_frequency(tiny, rng, presence, frequency):
    pair = tiny("qwen2-tied")
    prompt = draw_prompt(rng, models.VOCAB)
    tokens, scores = _penalised(pair, prompt, presence, frequency)
    ours = pair.ft.generate(
        prompt, max_new_tokens=NEW, stop_token_ids=[], presence_penalty=presence, frequency_penalty=frequency
    )
    assert_greedy(ours.token_ids, tokens, scores, f"presence {presence}, frequency {frequency}")


def test_logits_processor_in_python(tiny, rng):
    """A callable sees prompt and new tokens, and what it writes decides."""
    pair = tiny("llama-gqa")
    prompt = draw_prompt(rng, models.VOCAB)
    banned = set(pair.hf_greedy(prompt, 20).tokens)
    lengths = []

    def ban(tokens, logits):
        assert tokens[: len(prompt)].tolist() == prompt
        lengths.append(len(tokens))
        logits[list(banned)] = -np.inf

    ours = pair.ft.generate(prompt, max_new_tokens=20, stop_token_ids=[], logits_processor=ban)
    expected = pair.hf_greedy(prompt, 20, suppress_tokens=list(banned))
    assert_greedy(ours.token_ids, expected.tokens, expected.scores, "logits_processor")
    assert lengths == list(range(len(prompt), len(prompt) + 20))


class _Overruling(LogitsProcessor):
    """Makes the token that follows the likeliest one by id the likeliest, at every third length."""

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] % 3:
            return scores
        return torch.stack([torch.tensor(_overrule(row.numpy().copy())) for row in scores])


def _overrule(logits):
    logits[(int(logits.argmax()) + 1) % logits.size] = logits.max() + 1
    return logits


@pytest.mark.parametrize("name", [*NAMES, "t5-v1_1", "bart"])
@pytest.mark.parametrize("beams", [1, 3])
def test_constraint_forced_tokens_and_processor(tiny, rng, name, beams):
    """In transformers a forced token overrules prefix_allowed_tokens_fn, and a processor of the caller's both."""
    pair = tiny(name)
    forced = int(rng.integers(3, models.VOCAB))
    allowed = sorted({*rng.integers(3, models.VOCAB, 12).tolist()} - {forced})
    settings = {
        "max_new_tokens": 17,
        "num_beams": beams,
        "prefix_allowed_tokens_fn": lambda prompt, ids: allowed[: 6 + len(ids) % 5],
        "forced_eos_token_id": forced,
        "forced_bos_token_id": forced,
    }
    for overruling in (False, True):
        prompt = draw_prompt(rng, models.VOCAB, 1, 20)
        theirs = LogitsProcessorList([_Overruling()]) if overruling else LogitsProcessorList()
        reference = pair.hf.generate(
            torch.tensor([prompt]),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            logits_processor=theirs,
            **settings,
        )[0, pair.start_of(prompt) :].tolist()
        ours = pair.ft.generate(
            prompt,
            stop_token_ids=[],
            logits_processor=(lambda ids, logits: None if len(ids) % 3 else _overrule(logits)) if overruling else None,
            **settings,
        )
        assert ours.token_ids.tolist() == reference
        if not overruling:
            assert ours.token_ids[-1] == forced
