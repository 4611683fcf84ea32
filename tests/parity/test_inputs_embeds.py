"""forward() on embeddings in the place of token ids gives transformers' outputs, however the rows are laid out."""

import numpy as np
import pytest
import torch

from . import models
from .compare import assert_close, assert_same
from .pair import draw_prompt

DECODERS = [*models.DECODERS_SHORT, "gpt2", "gptj", "gpt-neox", "opt", "opt-350m", "bloom", *models.BASES]


def drawn_embeddings(table, rng, length):
    """Like the table's own rows, and none of them."""
    real = table(torch.tensor(rng.integers(3, table.num_embeddings, length)))
    return (real + torch.tensor(rng.normal(size=real.shape), dtype=torch.float32) * real.std()).detach()


@torch.no_grad()
def _reference(pair, **inputs):
    """One row alone."""
    out = pair.hf(**{name: value[None] for name, value in inputs.items()}, output_hidden_states=True)
    names = ("logits", "last_hidden_state", "pooler_output", "encoder_last_hidden_state")
    found = {name: getattr(out, name)[0].numpy() for name in names if getattr(out, name, None) is not None}
    if "last_hidden_state" not in found:
        states = out.decoder_hidden_states if pair.hf.config.is_encoder_decoder else out.hidden_states
        found["last_hidden_state"] = states[-1][0].numpy()
    return found


def _check(pair, what, **inputs):
    given = {name: value[None] for name, value in inputs.items()}
    if "decoder_inputs_embeds" in given:
        # Marian's decoder alone in transformers scales what it is given; pyft takes all embeddings as they are.
        given["decoder_inputs_embeds"] = given["decoder_inputs_embeds"] * getattr(
            pair.hf.get_decoder(), "embed_scale", 1.0
        )
    ours = pair.ft.forward(**given)
    for name, expected in _reference(pair, **inputs).items():
        assert_close(getattr(ours, name).numpy()[0], expected, f"{what}: {name}")


@pytest.mark.parametrize("name", [*DECODERS, *models.ENCODERS, "t5-encoder", "mt5-encoder"])
def test_embeddings(tiny, rng, name):
    pair = tiny(name)
    for length in (1, 17, 120):
        embeds = drawn_embeddings(pair.hf.get_input_embeddings(), rng, length)
        _check(pair, f"{name} of {length}", inputs_embeds=embeds)


@pytest.mark.parametrize("name", ["bert", "bert-token"])
def test_token_types(tiny, rng, name):
    pair = tiny(name)
    embeds = drawn_embeddings(pair.hf.get_input_embeddings(), rng, 30)
    types = torch.tensor(np.repeat([0, 1], [13, 17]))
    _check(pair, name, inputs_embeds=embeds, token_type_ids=types)


@pytest.mark.parametrize("name", models.ENCODER_DECODERS)
def test_both_sides(tiny, rng, name):
    """Embeddings for the encoder, for the decoder, and for both."""
    pair = tiny(name)
    encoder, decoder = pair.hf.get_encoder(), pair.hf.get_decoder()
    for source_length, target_length in ((1, 1), (40, 7), (3, 60)):
        ids = torch.tensor(draw_prompt(rng, models.VOCAB, source_length, source_length))
        target = torch.tensor(draw_prompt(rng, pair.ft.config.vocab_size, target_length, target_length))
        embeds = drawn_embeddings(encoder.get_input_embeddings(), rng, source_length)
        decoder_embeds = drawn_embeddings(decoder.get_input_embeddings(), rng, target_length)
        what = f"{name}, {source_length} to {target_length}"
        _check(pair, what, inputs_embeds=embeds, decoder_input_ids=target)
        _check(pair, what, input_ids=ids, decoder_inputs_embeds=decoder_embeds)
        _check(pair, what, inputs_embeds=embeds, decoder_inputs_embeds=decoder_embeds)


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "bert", "roberta-mlm", "t5-encoder"])
def test_layouts(tiny, rng, name):
    """Ragged lists, padding on either side, strides and types: the same rows give the same outputs."""
    pair = tiny(name)
    table = pair.hf.get_input_embeddings()
    rows = [drawn_embeddings(table, rng, int(n)).bfloat16().float() for n in rng.integers(1, 40, 4)]
    alone = [pair.ft.forward(inputs_embeds=row[None]).last_hidden_state.numpy()[0] for row in rows]
    ragged = pair.ft.forward(inputs_embeds=[row.numpy() for row in rows]).last_hidden_state.numpy()
    longest = max(map(len, rows)) + 2
    for r, expected in enumerate(alone):
        assert_same(ragged[r, : len(expected)], expected)
        assert not ragged[r, len(expected) :].any()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        padded = torch.full((len(rows), longest, table.embedding_dim), float("nan"), dtype=dtype)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for r, row in enumerate(rows):
            first = int(rng.integers(0, longest - len(row) + 1))
            padded[r, first : first + len(row)] = row.to(dtype)
            mask[r, first : first + len(row)] = 1
        for given in (padded, padded.transpose(0, 2).contiguous().transpose(0, 2)):
            made = pair.ft.forward(inputs_embeds=given, attention_mask=mask).last_hidden_state.numpy()
            for r, expected in enumerate(alone):
                assert_same(made[r, mask[r] != 0], expected)


@pytest.mark.parametrize("name", ["llama-gqa", "t5"])
def test_misuse_is_named(tiny, rng, name):
    model = tiny(name).ft
    good = np.zeros((2, 3, model.config.hidden_size), dtype=np.float32)
    ids = np.array([[5, 6, 7], [8, 9, 10]])
    for message, wrong in {
        "both given": {"input_ids": ids, "inputs_embeds": good},
        "input_ids is not given": {},
        "rows of": {"inputs_embeds": good[:, :, :-1]},
        "is meant": {"inputs_embeds": good[0]},
        "attention_mask is": {"inputs_embeds": good, "attention_mask": np.ones((2, 4), dtype=int)},
        "all of one width": {"inputs_embeds": [good[0], good[0, :2, :-1]]},
        "decoder_attention_mask is given without": {"input_ids": ids, "decoder_attention_mask": np.ones((2, 3))},
    }.items():
        with pytest.raises(ValueError, match=message):
            model.forward(**wrong)
    with pytest.raises(TypeError, match="floats"):
        model.forward(inputs_embeds=good.astype(np.int32))
    if name == "llama-gqa":
        with pytest.raises(ValueError, match="no encoder-decoder"):
            model.forward(ids, decoder_inputs_embeds=good)
