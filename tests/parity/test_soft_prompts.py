"""Soft prompts: embeddings in the place of tokens and prefixes of keys and values give transformers' tokens."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache

import pyft

from . import models
from .compare import assert_greedy, assert_same_generation
from .pair import draw_prompt
from .test_inputs_embeds import drawn_embeddings

NAMES = [*models.DECODERS_SHORT, "gpt2", "opt-350m", "bloom", *models.ENCODER_DECODERS_SHORT]
NEW = 20


@torch.no_grad()
def _hf_embedded(pair, embeddings, new):
    """Greedy tokens and scores. An encoder-decoder's answer begins with its start token."""
    out = pair.hf.generate(
        inputs_embeds=embeddings[None],
        attention_mask=torch.ones(1, len(embeddings), dtype=torch.long),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    start = int(pair.hf.config.is_encoder_decoder)
    return out.sequences[0, start:].tolist(), torch.stack(out.scores)[:, 0].numpy()


@pytest.mark.parametrize("name", NAMES)
def test_prompts_of_embeddings(tiny, rng, name):
    pair = tiny(name)
    rows = [drawn_embeddings(pair.hf.get_input_embeddings(), rng, int(n)) for n in rng.integers(1, 60, 3)]
    for model in (pair.ft, pair.load(max_tokens_per_step=7)):
        before = model.session().stats()["prompt_tokens_reused"]
        made = model.generate(inputs_embeds=[row.numpy() for row in rows], max_new_tokens=NEW, stop_token_ids=[])
        for row, ours in zip(rows, made, strict=True):
            tokens, scores = _hf_embedded(pair, row, NEW)
            assert_greedy(ours.token_ids, tokens, scores, f"{name}, {len(row)} embeddings")
        assert model.session().stats()["prompt_tokens_reused"] == before


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "gpt2"])
def test_embeddings_among_tokens(tiny, rng, name):
    """p-tuning: spans of embeddings at drawn places; penalties see the tokens only; beams share them."""
    pair = tiny(name)
    model = pair.load(max_tokens_per_step=11)
    prompt = draw_prompt(rng, models.VOCAB, 30, 40)
    spans = {
        2: drawn_embeddings(pair.hf.get_input_embeddings(), rng, 5),
        7: drawn_embeddings(pair.hf.get_input_embeddings(), rng, 1),
        19: drawn_embeddings(pair.hf.get_input_embeddings(), rng, 9),
    }
    whole = pair.hf.get_input_embeddings()(torch.tensor(prompt)).detach()
    for start, rows in spans.items():
        whole[start : start + len(rows)] = rows
    tokens, scores = _hf_embedded(pair, whole, NEW)
    given = {start: rows.numpy() for start, rows in spans.items()}
    ours = model.generate(prompt, inputs_embeds=given, max_new_tokens=NEW, stop_token_ids=[])
    assert_greedy(ours.token_ids, tokens, scores, name)
    settings = {"max_new_tokens": NEW, "stop_token_ids": [], "logprobs": True}
    assert_same_generation(model.generate(prompt, **settings), pair.ft.generate(prompt, **settings))

    seen = []
    model.generate(
        prompt, inputs_embeds=given, max_new_tokens=1, logits_processor=lambda ids, logits: seen.append(ids.copy())
    )
    hidden = [i for start, rows in given.items() for i in range(start, start + len(rows))]
    assert np.flatnonzero(seen[0] < 0).tolist() == hidden
    scored = model.generate(prompt, inputs_embeds=given, max_new_tokens=1, prompt_logprobs=True).prompt_logprobs
    assert np.flatnonzero(np.isnan(scored)).tolist() == [0, *hidden]
    for settings in ({"num_beams": 3}, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}):
        one = model.generate(prompt, inputs_embeds=given, max_new_tokens=NEW, stop_token_ids=[], **settings)
        two = pair.ft.generate(prompt, inputs_embeds=given, max_new_tokens=NEW, stop_token_ids=[], **settings)
        assert np.array_equal(one.token_ids, two.token_ids)


@torch.no_grad()
def _hf_with_prefix(pair, prompt, prefix, new):
    cache = DynamicCache(config=pair.hf.config)
    for layer, (keys, values) in enumerate(torch.tensor(prefix)):
        cache.update(keys[None], values[None], layer)
    tokens, scores, step = [], [], list(prompt)
    length = prefix.shape[3]
    for _ in range(new):
        length += len(step)
        mask = torch.ones(1, length, dtype=torch.long)
        out = pair.hf(torch.tensor([step]), past_key_values=cache, attention_mask=mask, use_cache=True)
        scores.append(out.logits[0, -1].numpy())
        tokens.append(int(scores[-1].argmax()))
        step = tokens[-1:]
    return tokens, np.array(scores)


def test_sources_of_embeddings_among_tokens(tiny, rng):
    """An encoder-decoder's soft prompt is its encoder's, shared by its beams; the decoder's tokens stay themselves."""
    pair = tiny("bart")
    table = pair.hf.get_encoder().get_input_embeddings()
    model = pair.load(max_tokens_per_step=11)
    prompts = [draw_prompt(rng, models.VOCAB, 12, 30) for _ in range(3)]
    rows = drawn_embeddings(table, rng, 5)
    seen = []

    def look(ids, logits):
        seen.append(ids.min())

    for settings in ({}, {"num_beams": 3}, {"decoder_input_ids": [0, 9, 8]}):
        made = model.generate(
            prompts, inputs_embeds={4: rows.numpy()}, max_new_tokens=NEW, stop_token_ids=[], **settings
        )
        for prompt, ours in zip(prompts, made, strict=True):
            whole = table(torch.tensor(prompt)).detach()
            whole[4:9] = rows
            alone = pair.ft.generate(inputs_embeds=whole, max_new_tokens=NEW, stop_token_ids=[], **settings)
            assert np.array_equal(ours.token_ids, alone.token_ids)
            if not settings:
                tokens, scores = _hf_embedded(pair, whole, NEW)
                assert_greedy(ours.token_ids, tokens, scores, "bart")
    model.generate(prompts, inputs_embeds={4: rows.numpy()}, max_new_tokens=2, logits_processor=look)
    assert min(seen) >= 0
    assert model.session().stats()["pages_in_use"] == 0
    with pytest.raises(pyft.UnsupportedError, match="prefix_key_values"):
        shape = (model.config.num_layers, 2, model.config.num_kv_heads, 3, model.config.head_dim)
        model.generate(prompts, past_key_values=np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("name", ["llama-gqa", "llama-yarn", "qwen3", "gpt2", "opt-350m", "bloom"])
@pytest.mark.parametrize("length", [1, 16, 37])
def test_prefix_keys_and_values(tiny, rng, name, length):
    """Prefix tuning: a virtual prefix in one page, filling it, and over several; prompts in chunks."""
    pair = tiny(name)
    config = pair.ft.config
    shape = (config.num_layers, 2, config.num_kv_heads, length, config.head_dim)
    prefix = rng.normal(size=shape).astype(np.float32)
    prompts = [draw_prompt(rng, models.VOCAB, 1, 40) for _ in range(3)]
    model = pair.load(max_tokens_per_step=9)
    before = model.generate(prompts, max_new_tokens=NEW, stop_token_ids=[])
    made = model.generate(prompts, past_key_values=prefix, max_new_tokens=NEW, stop_token_ids=[])
    for prompt, ours in zip(prompts, made, strict=True):
        tokens, scores = _hf_with_prefix(pair, prompt, prefix, NEW)
        assert_greedy(ours.token_ids, tokens, scores, f"{name}, prefix of {length}")
    after = model.generate(prompts, max_new_tokens=NEW, stop_token_ids=[])
    assert [g.token_ids.tolist() for g in before] == [g.token_ids.tolist() for g in after]
    beams = {"past_key_values": prefix, "num_beams": 3, "max_new_tokens": NEW, "stop_token_ids": []}
    assert np.array_equal(
        model.generate(prompts[0], **beams).token_ids, pair.ft.generate(prompts[0], **beams).token_ids
    )
    assert model.session().stats()["pages_in_use"] == 0


def test_misuse_is_named(tiny, rng):
    model = tiny("llama-gqa").ft
    width = model.config.hidden_size
    good = np.zeros((3, width), dtype=np.float32)
    for wrong in (good[:, :-1], good[0], good[:0]):
        with pytest.raises(ValueError, match="inputs_embeds"):
            model.generate(inputs_embeds=[wrong])
    with pytest.raises(TypeError, match="floats"):
        model.generate(inputs_embeds=good.astype(np.int32))
    for wrong in ({4: good}, {-1: good}, {0: good, 2: good}, [{}, {}], good):
        with pytest.raises(ValueError, match="inputs_embeds"):
            model.generate([5, 6, 7, 8, 9, 10], inputs_embeds=wrong)
    with pytest.raises(ValueError, match="past_key_values"):
        model.generate([5], past_key_values=good)
    with pytest.raises(ValueError, match="prefix of 510 positions"):
        shape = (model.config.num_layers, 2, model.config.num_kv_heads, 510, model.config.head_dim)
        model.generate([5, 6, 7], past_key_values=np.zeros(shape, dtype=np.float32))
