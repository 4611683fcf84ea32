"""Encoder-decoders: logits and hidden states of both sides equal transformers', whatever rows are beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from . import models
from .compare import assert_close, assert_same
from .pair import Pair, draw_prompt
from .test_padding import _pad

OUTPUTS = ("logits", "last_hidden_state", "encoder_last_hidden_state")


def target_vocab(pair: Pair) -> int:
    return pair.ft.config["vocab_size"]


@torch.no_grad()
def reference(pair: Pair, source: list[int], target: list[int]) -> dict[str, np.ndarray]:
    """One pair of rows alone."""
    out = pair.hf(torch.tensor([source]), decoder_input_ids=torch.tensor([target]), output_hidden_states=True)
    found = {"encoder_last_hidden_state": out.encoder_last_hidden_state[0].numpy()}
    if hasattr(out, "logits"):
        found["logits"] = out.logits[0].numpy()
    last = out.last_hidden_state if hasattr(out, "last_hidden_state") else out.decoder_hidden_states[-1]
    found["last_hidden_state"] = last[0].numpy()
    return found


def compare(pair: Pair, source: list[int], target: list[int], what: str) -> None:
    ours = pair.ft.forward([source], decoder_input_ids=[target])
    for output, expected in reference(pair, source, target).items():
        assert_close(getattr(ours, output).numpy()[0], expected, f"{what}: {output}")


@pytest.mark.parametrize("name", models.ENCODER_DECODERS)
def test_logits_and_hidden_states(tiny, rng, name):
    pair = tiny(name)
    # Past the distances at which T5's buckets end, and one token on either side.
    for source_length, target_length in ((1, 1), (23, 7), (1, 40), (190, 150)):
        source = draw_prompt(rng, models.VOCAB, source_length, source_length)
        target = draw_prompt(rng, target_vocab(pair), target_length, target_length)
        compare(pair, source, target, f"{name}, {source_length} to {target_length}")


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_encoder_alone(tiny, rng, name):
    """A T5EncoderModel, and the same encoder within its model."""
    pair = tiny(name)
    alone = tiny(f"{name}-encoder")
    rows = [draw_prompt(rng, models.VOCAB, 1, 80) for _ in range(4)]
    together = alone.ft.forward(rows)
    assert together.logits is None
    for r, row in enumerate(rows):
        expected = alone.hf_forward(row)["last_hidden_state"]
        assert_close(together.last_hidden_state.numpy()[r, : len(row)], expected, f"{name} encoder, row {r}")
    source = rows[0]
    only = pair.ft.forward([source], outputs="encoder_last_hidden_state")
    assert only.logits is None and only.last_hidden_state is None
    both = pair.ft.forward([source], decoder_input_ids=[[0, 5]])
    assert_same(only.encoder_last_hidden_state.numpy(), both.encoder_last_hidden_state.numpy())


@pytest.mark.parametrize("name", models.ENCODER_DECODERS_SHORT)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_rows_alone(tiny, rng, name, side):
    """To the bit; and ragged lists are the same again."""
    pair = tiny(name)
    sources = [draw_prompt(rng, models.VOCAB, 1, 50) for _ in range(5)]
    targets = [draw_prompt(rng, target_vocab(pair), 1, 30) for _ in sources]
    ids, mask, places = _pad(sources, side, rng)
    decoder_ids, decoder_mask, decoder_places = _pad(targets, side, rng)
    together = pair.ft.forward(
        ids, attention_mask=mask, decoder_input_ids=decoder_ids, decoder_attention_mask=decoder_mask
    )
    ragged = pair.ft.forward(sources, decoder_input_ids=targets)
    for r, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = pair.ft.forward([source], decoder_input_ids=[target])
        for output in OUTPUTS:
            expected = getattr(alone, output).numpy()[0]
            encoder = output.startswith("encoder")
            place = places[r] if encoder else decoder_places[r]
            whole = getattr(together, output).numpy()[r]
            assert_same(whole[place], expected, f"{name} {output} row {r}")
            assert not whole[(mask if encoder else decoder_mask)[r] == 0].any(), f"{name} {output}: padding is not zero"
            assert_same(getattr(ragged, output).numpy()[r, : len(expected)], expected)


@pytest.mark.parametrize("name", ["t5", "bart", "marian"])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 4e-2)], ids=["float16", "bfloat16"]
)
def test_stored_dtypes(tiny, rng, name, dtype, bound):
    pair = tiny(name, dtype=dtype)
    source, target = draw_prompt(rng, models.VOCAB, 40, 60), draw_prompt(rng, models.VOCAB, 20, 30)
    expected = reference(pair, source, target)["logits"]
    ours = pair.ft.forward([source], decoder_input_ids=[target]).logits.numpy()[0]
    assert_close(ours, expected, f"{name} in {dtype}", bound)
    exact = pair.load(dtype="float32").forward([source], decoder_input_ids=[target]).logits.numpy()[0]
    assert_close(exact, expected, f"{name} stored in {dtype}, computed in float32")


_MANY = [pytest.param(i, marks=pytest.mark.full) for i in range(6, 60)]


@pytest.mark.parametrize("draw", [*range(6), *_MANY])
def test_drawn_sizes(tiny, rng, draw):
    name = str(rng.choice(["t5", "t5-v1_1", "mt5", "bart", "mbart", "marian"]))
    heads = int(rng.integers(1, 7))
    if name in ("t5", "t5-v1_1", "mt5"):
        buckets = 4 * int(rng.integers(1, 10))
        sizes = {
            "d_model": int(rng.integers(1, 200)),
            "d_kv": int(rng.integers(1, 70)),
            "num_heads": heads,
            "d_ff": int(rng.integers(1, 300)),
            "num_layers": int(rng.integers(1, 4)),
            "num_decoder_layers": int(rng.integers(1, 4)),
            "relative_attention_num_buckets": buckets,
            "relative_attention_max_distance": int(rng.integers(buckets // 2 + 1, 150)),
        }
    else:
        encoder_heads = int(rng.integers(1, 7))
        sizes = {
            "d_model": heads * encoder_heads * 2 * int(rng.integers(1, 60 // (heads * encoder_heads) + 2)),
            "encoder_attention_heads": encoder_heads,
            "decoder_attention_heads": heads,
            "encoder_layers": int(rng.integers(1, 4)),
            "decoder_layers": int(rng.integers(1, 4)),
            "encoder_ffn_dim": int(rng.integers(1, 300)),
            "decoder_ffn_dim": int(rng.integers(1, 300)),
            "scale_embedding": bool(rng.integers(2)),
        }
    sizes["vocab_size"] = int(rng.integers(5, 700))
    pair = tiny(name, tag=str(draw), **sizes)
    for _ in range(2):
        source = draw_prompt(rng, sizes["vocab_size"], 1, 130)
        compare(pair, source, draw_prompt(rng, sizes["vocab_size"], 1, 90), f"{name} {sizes}")


def test_mistakes(tiny):
    pair = tiny("t5")
    with pytest.raises(ValueError, match="decoder_input_ids is not given"):
        pair.ft.forward([[3, 4]])
    with pytest.raises(ValueError, match="2 rows for the encoder and 1 for the decoder"):
        pair.ft.forward([[3, 4], [5, 6]], decoder_input_ids=[[0]])
    with pytest.raises(ValueError, match="decoder row 0 has no tokens"):
        pair.ft.forward([[3, 4]], decoder_input_ids=[[0]], decoder_attention_mask=[[0]])
    with pytest.raises(ValueError, match="decoder_input_ids holds 1000"):
        pair.ft.forward([[3, 4]], decoder_input_ids=[[1000]])
    with pytest.raises(ValueError, match="is no encoder-decoder"):
        tiny("llama-gqa").ft.forward([[3, 4]], decoder_input_ids=[[3]])
