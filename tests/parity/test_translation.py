"""Encoder-decoder generation: tokens equal transformers', in running batches of every kind of request."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import pyft

from . import models
from .compare import BOUNDS, INT8, assert_greedy, assert_same, assert_same_generation
from .pair import Pair, draw_prompt

NEW = 64
# Untied models left alone say one token for ever; these settings make every step a choice.
LIVELY = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}


def check(pair: Pair, sources: list[list[int]], answers: list, what: str, **settings) -> None:
    for source, ours in zip(sources, answers, strict=True):
        reference = pair.hf_greedy(source, NEW, **settings)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"{what}, source of {len(source)}")


@pytest.mark.parametrize("settings", [{}, LIVELY], ids=["plain", "lively"])
@pytest.mark.parametrize("name", models.GENERATORS)
def test_greedy(tiny, rng, name, settings):
    pair = tiny(name)
    sources = [draw_prompt(rng, models.VOCAB, n, n) for n in (1, int(rng.integers(2, 40)), 70)]
    together = pair.ft.generate(sources, max_new_tokens=NEW, stop_token_ids=[], **settings)
    check(pair, sources, together, name, **settings)
    width = max(map(len, sources))
    ids, mask = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    for row, source in enumerate(sources):
        ids[row, width - len(source) :] = source
        mask[row, width - len(source) :] = 1
    padded = pair.ft.generate(ids, mask, max_new_tokens=NEW, stop_token_ids=[], **settings)
    assert [one.token_ids.tolist() for one in padded] == [one.token_ids.tolist() for one in together]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", INT8])
@pytest.mark.parametrize("name", ["t5-own-output", "marian"])
def test_tokens_do_not_depend_on_the_batch_or_the_steps(tiny, rng, name, dtype):
    """To the bit, log-probabilities too: alone, among others, and with room for few tokens or pages at a time."""
    pair = tiny(name)
    sources = [draw_prompt(rng, models.VOCAB, 1, 60) for _ in range(7)]
    settings = {"max_new_tokens": 24, "stop_token_ids": [], "logprobs": "processed", **LIVELY}
    together = pair.load(dtype=dtype).generate(sources, **settings)
    chunked = pair.load(dtype=dtype, max_tokens_per_step=5, max_batch_size=3).generate(sources, **settings)
    model = pair.load(dtype=dtype, threads=1)
    page_bytes = model.session().stats()["page_bytes"]
    queued = pair.load(dtype=dtype, kv_cache_bytes=8 * page_bytes).generate(sources, **settings)
    for source, *others in zip(sources, together, chunked, queued, strict=True):
        alone = model.generate(source, **settings)
        for other in others:
            assert_same_generation(alone, other, BOUNDS[dtype])


@pytest.mark.parametrize("name", models.ENCODER_DECODERS_SHORT)
def test_forward_equals_steps(tiny, rng, name):
    """What generation computes through its pages is what one pass over both sides gives, to the bit."""
    pair = tiny(name)
    source = draw_prompt(rng, models.VOCAB)
    seen = []

    def record(tokens, logits):
        seen.append((tokens.tolist(), logits.copy()))

    ours = pair.ft.generate(source, max_new_tokens=12, stop_token_ids=[], logits_processor=record)
    target = seen[-1][0]
    assert target == [pair.ft.config["decoder_start_token_id"], *ours.token_ids.tolist()[:-1]]
    whole = pair.ft.forward([source], decoder_input_ids=[target]).logits.numpy()[0]
    for tokens, logits in seen:
        assert_same(logits, whole[len(tokens) - 1], f"{name}: logits after {len(tokens)} tokens")


def test_requests_of_every_kind_share_a_batch(tiny, rng):
    """Greedy, sampled and beams at once, submitted as one list of requests each: as if each were alone."""
    pair = tiny("t5-own-output")
    sources = [draw_prompt(rng, models.VOCAB, 1, 40) for _ in range(3)]
    kinds = [LIVELY, {"do_sample": True, "seed": 5}, {"num_beams": 4, "num_return_sequences": 2}]
    alone = [[pair.ft.generate(s, max_new_tokens=20, stop_token_ids=[], **kind) for s in sources] for kind in kinds]

    from concurrent.futures import ThreadPoolExecutor

    def run(kind):
        return pair.ft.generate(sources, max_new_tokens=20, stop_token_ids=[], **kind)

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(run, kinds))
    for one, other in zip(alone, together, strict=True):
        flat = [
            g for made in (one, other) for g in [x for row in made for x in (row if isinstance(row, list) else [row])]
        ]
        half = len(flat) // 2
        for a, b in zip(flat[:half], flat[half:], strict=True):
            assert np.array_equal(a.token_ids, b.token_ids)


def test_the_source_is_computed_once_for_all_beams(tiny, rng):
    model = tiny("t5").load()
    source = draw_prompt(rng, models.VOCAB, 50, 50)
    model.generate(source, num_beams=8, num_return_sequences=8, max_new_tokens=10, stop_token_ids=[])
    stats = model.session().stats()
    assert stats["prompt_tokens"] == len(source) + 1  # the start token
    assert stats["pages_in_use"] == 0


def test_decoder_input_ids(tiny, rng):
    pair = tiny("mbart")
    sources = [draw_prompt(rng, models.VOCAB) for _ in range(2)]
    starts = [[2, 9, 4, 120], [17]]  # with and without the start token, which is put before the second
    together = pair.ft.generate(sources, decoder_input_ids=starts, max_new_tokens=20, stop_token_ids=[], **LIVELY)
    for source, start, ours in zip(sources, starts, together, strict=True):
        reference = pair.hf_greedy(source, 20, decoder_input_ids=torch.tensor([start]), **LIVELY)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"after {start}")
    same = pair.ft.generate(sources, decoder_input_ids=starts[0], max_new_tokens=20, stop_token_ids=[], **LIVELY)
    assert np.array_equal(same[0].token_ids, together[0].token_ids)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("new", [1, 2, 20])
def test_forced_tokens(tiny, rng, beams, new):
    """Given, or the checkpoint's own."""
    pair = tiny("mbart")
    source = draw_prompt(rng, models.VOCAB)
    forced = {"forced_bos_token_id": 50, "forced_eos_token_id": 7}
    ours = pair.ft.generate(source, num_beams=beams, max_new_tokens=new, stop_token_ids=[7], **forced)
    reference = pair.hf_greedy(source, new, eos_token_id=7, num_beams=beams, **forced)
    assert ours.token_ids.tolist() == [t for t in reference.tokens if t != 0]
    assert ours.token_ids[-1] == 7

    own = tiny("mbart", tag="forced", forced_eos_token_id=7)
    settings = json.loads((own.folder / "generation_config.json").read_text())
    (own.folder / "generation_config.json").write_text(json.dumps({**settings, "forced_bos_token_id": 50}))
    again = own.load().generate(source, num_beams=beams, max_new_tokens=new, stop_token_ids=[7])
    expected = own.hf_greedy(source, new, eos_token_id=7, num_beams=beams)
    assert again.token_ids.tolist() == [t for t in expected.tokens if t != 0]
    without = own.load().generate(
        source, max_new_tokens=new, stop_token_ids=[], forced_bos_token_id=None, forced_eos_token_id=None
    )
    plain = own.hf_greedy(source, new, forced_bos_token_id=None, forced_eos_token_id=None)
    assert_greedy(without.token_ids, plain.tokens, plain.scores, "nothing forced")


def test_end_token_of_the_checkpoint(tiny, rng):
    pair = tiny("t5-own-output")
    source = draw_prompt(rng, models.VOCAB)
    said = pair.hf_greedy(source, NEW, **LIVELY).tokens
    end = said[10]
    own = tiny("t5-own-output", tag="end")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((own.folder / name).read_text())
        (own.folder / name).write_text(json.dumps({**values, "eos_token_id": end}))
    ours = own.load().generate(source, max_new_tokens=NEW, **LIVELY)
    reference = own.hf_greedy(source, NEW, eos_token_id=end, **LIVELY)
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, "up to the end token")


def test_cancelling_gives_all_pages_back(tiny, rng):
    model = tiny("bart").load()

    def refuse(tokens, logits):
        if len(tokens) == 4:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        model.generate([draw_prompt(rng, models.VOCAB) for _ in range(3)], logits_processor=refuse)
    assert model.session().stats()["pages_in_use"] == 0


def test_mistakes(tiny):
    pair = tiny("t5")
    model = pair.load(kv_cache_bytes=3 * pair.ft.session().stats()["page_bytes"])
    with pytest.raises(pyft.OutOfMemoryError, match="4 key-value pages"):  # two of the source's, two of the answer's
        model.generate([5] * 20, max_new_tokens=30)
    with pytest.raises(ValueError, match="is no encoder-decoder"):
        tiny("llama-gqa").ft.generate([5], decoder_input_ids=[3])
    with pytest.raises(ValueError, match="decoder_input_ids holds token 5000"):
        pair.ft.generate([5], decoder_input_ids=[5000])
    with pytest.raises(ValueError, match="2 rows for 1 prompts"):
        pair.ft.generate([5], decoder_input_ids=[[1], [2]])
    with pytest.raises(pyft.UnsupportedError, match="cannot generate"):
        tiny("t5-bare").ft.generate([5])
