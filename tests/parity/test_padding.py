"""A row of a padded or ragged batch is, to the bit, what it is alone."""

import numpy as np
import pytest

from . import models
from .compare import BOUNDS, INT8, assert_close, assert_same
from .pair import draw_prompt

NAMES = [*models.DECODERS_SHORT, "bert", "bert-sequence", "bert-token", "roberta", "roberta-mlm", "distilbert-mlm"]
OUTPUTS = ("logits", "last_hidden_state", "pooler_output")
PER_ROW = {"pooler_output"}


def _rows(rng, count=5):
    lengths = rng.permutation([1, 2, 19, 33, *rng.integers(3, 60, count - 4)])
    return [draw_prompt(rng, models.VOCAB, int(n), int(n)) for n in lengths]


def _pad(rows, side, rng):
    width = max(map(len, rows)) + 2  # a column that no row uses
    ids = rng.integers(3, models.VOCAB, (len(rows), width))  # padding holds rubbish: it must not matter
    mask = np.zeros((len(rows), width), np.int64)
    places = []
    for r, row in enumerate(rows):
        start = 0 if side == "right" else width - len(row)
        places.append(slice(start, start + len(row)))
        ids[r, places[r]] = row
        mask[r, places[r]] = 1
    return ids, mask, places


def _is_per_row(name, output):
    return output in PER_ROW or (output == "logits" and name.endswith("-sequence"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_rows_alone(tiny, rng, name, side):
    pair = tiny(name)
    rows = _rows(rng)
    ids, mask, places = _pad(rows, side, rng)
    together = pair.ft.forward(ids, attention_mask=mask)
    for r, row in enumerate(rows):
        alone = pair.ft.forward([row])
        for output in OUTPUTS:
            whole = getattr(together, output)
            if whole is None:
                assert getattr(alone, output) is None
                continue
            whole, expected = whole.numpy(), getattr(alone, output).numpy()[0]
            assert whole.shape[0] == len(rows)
            if _is_per_row(name, output):
                assert_same(whole[r], expected, f"{name} {output} row {r}")
                continue
            assert whole.shape[:2] == ids.shape
            assert_same(whole[r, places[r]], expected, f"{name} {output} row {r}")
            assert not whole[r][mask[r] == 0].any(), f"{name} {output}: padding is not zero"


@pytest.mark.parametrize("name", ["llama-gqa", "bert", "roberta-sequence"])
def test_padded_rows_equal_transformers(tiny, rng, name):
    """The same through the oracle, which gets each row alone."""
    pair = tiny(name)
    rows = _rows(rng)
    ids, mask, places = _pad(rows, "right", rng)
    together = pair.ft.forward(ids, attention_mask=mask)
    for r, row in enumerate(rows):
        for output, expected in pair.hf_forward(row).items():
            ours = getattr(together, output).numpy()[r]
            assert_close(ours if _is_per_row(name, output) else ours[places[r]], expected, f"{name} {output} row {r}")


@pytest.mark.parametrize("name", ["llama-gqa", "bert"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", INT8])
def test_rows_do_not_depend_on_the_batch_in_any_dtype(tiny, rng, name, dtype):
    model = tiny(name).load(dtype=dtype)
    rows = _rows(rng)
    ids, mask, places = _pad(rows, "left", rng)
    together = model.forward(ids, attention_mask=mask).last_hidden_state.numpy()
    for r, row in enumerate(rows):
        alone = model.forward([row]).last_hidden_state.numpy()[0]
        assert_same(together[r, places[r]], alone, f"{name} row {r} in {dtype}", BOUNDS[dtype])


@pytest.mark.parametrize("width", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_integer_widths(tiny, rng, width):
    pair = tiny("llama-gqa", vocab_size=100)
    ids = rng.integers(3, 100, (2, 9))
    expected = pair.ft.forward(ids).logits.numpy()
    assert_same(pair.ft.forward(ids.astype(width)).logits.numpy(), expected)
    strided = np.zeros((2, 18), width)
    strided[:, ::2] = ids
    assert_same(pair.ft.forward(strided[:, ::2]).logits.numpy(), expected)
