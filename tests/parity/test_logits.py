"""Decoders: logits and hidden states equal transformers' on every variant, in float32."""

import numpy as np
import pytest
import torch

from . import models
from .compare import BOUNDS, DEVICE, INT8, assert_close
from .pair import draw_prompt


@pytest.mark.parametrize("name", models.DECODERS)
def test_logits_and_hidden_states(tiny, rng, name):
    pair = tiny(name)
    for length in (1, 23, 150):  # 150: past the windows, and past the yarn and llama3 original lengths
        ids = draw_prompt(rng, models.VOCAB, length, length)
        ours = pair.ft.forward([ids])
        reference = pair.hf_forward(ids)
        assert_close(ours.logits.numpy().reshape(length, -1), reference["logits"], f"{name} logits of {length}")
        hidden = ours.last_hidden_state.numpy().reshape(length, -1)
        assert_close(hidden, reference["last_hidden_state"], f"{name} hidden state of {length}")


@pytest.mark.parametrize("name", models.BASES)
def test_base_models(tiny, rng, name):
    """Saved without a head, under names without its prefix."""
    pair = tiny(name)
    for length in (1, 60):
        ids = draw_prompt(rng, models.VOCAB, length, length)
        ours = pair.ft.forward([ids])
        assert ours.logits is None
        reference = pair.hf_forward(ids)["last_hidden_state"]
        assert_close(ours.last_hidden_state.numpy()[0], reference, f"{name} of {length}")


@pytest.mark.parametrize("name", models.DECODERS_SHORT)
@pytest.mark.parametrize("shards", [False, True], ids=["one-file", "shards"])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    # bfloat16: products may be taken with activations rounded to 8 bits of mantissa (2^-9 relative each), which comes
    # to about 1% of the logits after three layers, half of what transformers' own bfloat16 loses.
    [(torch.float32, 1e-4), (torch.float16, 2e-3), (torch.bfloat16, 4e-2)],
    ids=["float32", "float16", "bfloat16"],
)
def test_stored_dtypes(tiny, rng, name, shards, dtype, bound):
    """The weights are computed on as stored; the oracle computes on the same rounded weights in float32."""
    pair = tiny(name, dtype=dtype, shard_size="60KB" if shards else None)
    assert (len(list(pair.folder.glob("*.safetensors"))) > 1) == shards
    ids = draw_prompt(rng, models.VOCAB, 40, 60)
    if DEVICE != "cpu" and dtype != torch.float32:
        bound *= 4  # a GPU's activations have as few bits as its weights
    ours = pair.ft.forward([ids]).logits.numpy()[0]
    assert_close(ours, pair.hf_forward(ids)["logits"], f"{name} in {dtype}", bound)
    # What the files store is only a matter of storage once float32 is asked for.
    exact = pair.load(dtype="float32").forward([ids]).logits.numpy()[0]
    assert_close(exact, pair.hf_forward(ids)["logits"], f"{name} stored in {dtype}, computed in float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", INT8])
@pytest.mark.parametrize("name", ["llama-gqa", "gpt2", "gpt-neox"])  # weights as they are, transposed, fused by heads
def test_computed_dtypes(tiny, rng, name, dtype):
    """A float32 checkpoint loaded in fewer bits stays within that many bits of the float32 oracle."""
    pair = tiny(name)
    bound = BOUNDS[dtype] * (1 if DEVICE == "cpu" else 4)  # a GPU's activations have as few bits as its weights
    ids = draw_prompt(rng, models.VOCAB, 40, 60)
    ours = pair.load(dtype=dtype).forward([ids]).logits.numpy()[0]
    assert_close(ours, pair.hf_forward(ids)["logits"], f"computed in {dtype}", bound)


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "bert", "distilbert-mlm"])
def test_bfloat16_is_nearer_than_transformers(tiny, rng, name):
    """Activations stay float32 between the products, so that less is lost than by computing all in bfloat16."""
    if DEVICE != "cpu":
        pytest.skip("a GPU's activations are bfloat16 too")
    pair = tiny(name, dtype=torch.bfloat16)
    ids = draw_prompt(rng, models.VOCAB, 60, 60)
    reference = pair.hf_forward(ids)
    output = "logits" if "logits" in reference else "last_hidden_state"
    theirs = type(pair.hf).from_pretrained(pair.folder, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        their_error = getattr(theirs(torch.tensor([ids])), output)[0].float().numpy() - reference[output]
    our_error = getattr(pair.ft.forward([ids]), output).numpy()[0] - reference[output]
    assert np.square(our_error).mean() < np.square(their_error).mean()


def test_long_prompt(tiny, rng):
    """More tokens than one step takes: the prompt is cut in chunks, which must not show."""
    pair = tiny("mistral-window", max_position_embeddings=2048)
    ids = draw_prompt(rng, models.VOCAB, 1100, 1100)
    assert_close(pair.ft.forward([ids]).logits.numpy()[0], pair.hf_forward(ids)["logits"], "1100 tokens")
    ours = pair.ft.generate([ids], max_new_tokens=8, stop_token_ids=[])[0]
    assert list(ours.token_ids) == pair.hf_greedy(ids, 8).tokens
