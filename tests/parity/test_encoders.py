"""Encoders: hidden states, poolers and heads equal transformers' on every variant, in float32."""

import numpy as np
import pytest
import torch

from . import models
from .compare import DEVICE, assert_close
from .pair import draw_prompt


def _check(pair, ids, what, **inputs):
    reference = pair.hf_forward(ids, **inputs)
    ours = pair.ft.forward([ids], **{name: [values] for name, values in inputs.items()})
    for output, expected in reference.items():
        found = getattr(ours, output)
        assert found is not None, f"{what}: no {output}"
        assert_close(found.numpy()[0], expected, f"{what} {output}")
    return ours


@pytest.mark.parametrize("name", models.ENCODERS)
def test_outputs(tiny, rng, name):
    pair = tiny(name)
    for length in (1, 17, 120):
        ids = draw_prompt(rng, models.VOCAB, length, length)
        ours = _check(pair, ids, f"{name} of {length}")
    if name.endswith("no-pooler") or "distil" in name:
        assert ours.pooler_output is None


@pytest.mark.parametrize("name", ["bert", "bert-sequence", "bert-token", "bert-mlm"])
def test_token_types(tiny, rng, name):
    pair = tiny(name)
    ids = draw_prompt(rng, models.VOCAB, 30, 30)
    types = np.repeat([0, 1], [13, 17]).tolist()
    with_types = _check(pair, ids, f"{name} with token types", token_type_ids=types)
    without = pair.ft.forward([ids])
    assert not np.array_equal(with_types.last_hidden_state.numpy(), without.last_hidden_state.numpy())


# Activations are float32 on the CPU; a GPU's have the stored dtype, and each sum with a residual is rounded to it.
@pytest.mark.parametrize("name", ["bert", "roberta-mlm", "distilbert-sequence"])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float16, 2e-3 if DEVICE == "cpu" else 4e-3), (torch.bfloat16, 4e-2)],
    ids=["float16", "bfloat16"],
)
def test_stored_dtypes(tiny, rng, name, dtype, bound):
    pair = tiny(name, dtype=dtype, shard_size="60KB")
    ids = draw_prompt(rng, models.VOCAB, 50, 50)
    reference = pair.hf_forward(ids)
    ours = pair.ft.forward([ids])
    for output, expected in reference.items():
        assert_close(getattr(ours, output).numpy()[0], expected, f"{name} {output} in {dtype}", bound)
