"""The forward pass from Python: padding on either side, ragged rows, integers of any width, zero copy."""

import numpy as np
import pytest
import torch

import pyft

RNG = np.random.default_rng(1)


def rows_of(*lengths: int) -> list[list[int]]:
    return [RNG.integers(5, 100, length).tolist() for length in lengths]


def alone(model: pyft.Model, row: list[int]) -> dict[str, np.ndarray]:
    out = model.forward([row])
    names = ("last_hidden_state", "logits", "pooler_output")
    return {name: getattr(out, name).numpy()[0] for name in names if getattr(out, name) is not None}


def padded(rows: list[list[int]], side: str) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, rows)) + 1
    ids, mask = np.full((len(rows), width), 7), np.zeros((len(rows), width), int)
    for index, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, at], mask[index, at] = row, 1
    return ids, mask


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(name: str, side: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    rows = rows_of(3, 9, 1, 17)
    ids, mask = padded(rows, side)
    out = model.forward(ids, attention_mask=mask)
    for index, row in enumerate(rows):
        expected = alone(model, row)
        there = mask[index] != 0
        hidden = out.last_hidden_state.numpy()[index]
        np.testing.assert_array_equal(hidden[there], expected["last_hidden_state"])
        assert not hidden[~there].any()
        if out.pooler_output is not None:
            np.testing.assert_array_equal(out.pooler_output.numpy()[index], expected["pooler_output"])
        if out.logits is not None:
            np.testing.assert_array_equal(out.logits.numpy()[index][there], expected["logits"])
    assert out.last_hidden_state.shape == (*ids.shape, 64)


def test_outputs_of_each_model(llama: pyft.Model, bert: pyft.Model) -> None:
    ids = np.array([[5, 6, 7]])
    decoder, encoder = llama.forward(ids), bert.forward(ids)
    assert decoder.logits.shape == (1, 3, 512)
    assert decoder.pooler_output is None
    assert encoder.logits is None
    assert encoder.pooler_output.shape == (1, 64)
    assert isinstance(decoder.logits, pyft.Tensor)
    assert "logits=" in repr(decoder)
    only = llama.forward(ids, outputs="logits")
    assert only.last_hidden_state is None
    np.testing.assert_array_equal(only.logits.numpy(), decoder.logits.numpy())
    with pytest.raises(pyft.UnsupportedError):
        bert.forward(ids, outputs=["logits"])
    with pytest.raises(ValueError, match="no output"):
        bert.forward(ids, outputs=["lgits"])


def test_ragged_rows(bert: pyft.Model) -> None:
    rows = rows_of(4, 2, 9)
    out = bert.forward(rows)
    assert out.last_hidden_state.shape == (3, 9, 64)
    for index, row in enumerate(rows):
        hidden = out.last_hidden_state.numpy()[index]
        np.testing.assert_array_equal(hidden[: len(row)], alone(bert, row)["last_hidden_state"])
        assert not hidden[len(row) :].any()
    arrays = bert.forward([np.array(row, np.int16) for row in rows])
    np.testing.assert_array_equal(arrays.last_hidden_state.numpy(), out.last_hidden_state.numpy())
    types = [[1] * len(row) for row in rows]
    typed = bert.forward(rows, token_type_ids=types)
    full = bert.forward([rows[0]], token_type_ids=[types[0]])
    np.testing.assert_array_equal(typed.pooler_output.numpy()[0], full.pooler_output.numpy()[0])
    assert not np.array_equal(typed.pooler_output.numpy(), out.pooler_output.numpy())


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", "<i8"]
)
def test_integers_of_any_width(bert: pyft.Model, dtype: str) -> None:
    ids = np.array([[5, 6, 7], [8, 9, 10]])
    expected = bert.forward(ids).last_hidden_state.numpy()
    given = ids.astype(dtype)
    mask = np.ones(ids.shape, dtype)
    np.testing.assert_array_equal(bert.forward(given, mask).last_hidden_state.numpy(), expected)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
def test_torch_integers_of_any_width(bert: pyft.Model, dtype: str) -> None:
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    expected = bert.forward(ids.numpy()).last_hidden_state.numpy()
    got = bert.forward(ids.to(getattr(torch, dtype)), attention_mask=torch.ones(2, 3, dtype=torch.bool))
    np.testing.assert_array_equal(got.last_hidden_state.numpy(), expected)


def test_boolean_and_strided_inputs(bert: pyft.Model) -> None:
    ids = RNG.integers(5, 100, (4, 12))
    mask = RNG.random((4, 12)) < 2
    expected = bert.forward(ids[::2, 1::3].copy()).last_hidden_state.numpy()
    np.testing.assert_array_equal(bert.forward(ids[::2, 1::3], mask[::2, 1::3]).last_hidden_state.numpy(), expected)
    tensor = torch.tensor(ids)[::2, 1::3]
    np.testing.assert_array_equal(bert.forward(tensor).last_hidden_state.numpy(), expected)
    frozen = ids[::2, 1::3]
    frozen.flags.writeable = False
    np.testing.assert_array_equal(bert.forward(frozen).last_hidden_state.numpy(), expected)
    np.testing.assert_array_equal(bert.forward(pyft.from_dlpack(frozen)).last_hidden_state.numpy(), expected)


def test_input_arrays_are_not_copied(bert: pyft.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handle is given tensors at the addresses of the caller's arrays."""
    import pyft.forward as forward_pass

    seen = []
    real = forward_pass.integer_tensor

    def watch(value: object, name: str) -> pyft.Tensor:
        tensor = real(value, name)
        seen.append(tensor.data_ptr)
        return tensor

    monkeypatch.setattr(forward_pass, "integer_tensor", watch)
    ids, mask = np.full((2, 3), 5), torch.ones(2, 3, dtype=torch.int8)
    bert.forward(ids, attention_mask=mask)
    assert seen == [ids.ctypes.data, mask.data_ptr()]


def test_outputs_go_out_without_a_copy(bert: pyft.Model) -> None:
    hidden = bert.forward([[5, 6, 7]]).last_hidden_state
    assert hidden.dtype == "float32"
    assert hidden.numpy().ctypes.data == hidden.data_ptr
    assert torch.from_dlpack(hidden).data_ptr() == hidden.data_ptr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("text",), TypeError),
        ((None,), (TypeError, ValueError)),
        (([1, 2, 3],), ValueError),
        ((np.array([1, 2]),), ValueError),
        ((np.ones((1, 2, 3), int),), ValueError),
        ((np.ones((1, 2)),), TypeError),
        ((torch.ones(1, 2),), TypeError),
        (([["a", "b"]],), TypeError),
        (([[1, 2], ["a"]],), TypeError),
        (([[1, 2], [3.5]],), TypeError),
        (([],), ValueError),
        (([[]],), (ValueError, TypeError)),
        ((np.ones((0, 4), int),), ValueError),
        (([[10**6]],), ValueError),
        (([[-1]],), ValueError),
        (([[1, 2]], [[1, 1, 1]]), ValueError),
        (([[1, 2], [3]], [[1, 1], [1, 0]]), ValueError),
        (([[1, 2]], [[0.5, 1.0]]), TypeError),
        (([[1, 2]], [[0, 0]]), ValueError),
        (([[1, 2]], None, [[0, 9]]), ValueError),
        (([[1] * 65],), ValueError),
        (([[1, 2], [3]], None, [[0, 0], [0, 0]]), ValueError),
        (([[1]], None, None, object()), pyft.UnsupportedError),
        (([[1]], None, None, None, [[1]]), ValueError),  # no encoder-decoder
        (([[1]], None, None, None, None, [[1]]), ValueError),
    ],
)
def test_misuse(bert: pyft.Model, arguments: tuple, error: type) -> None:
    with pytest.raises(error):
        bert.forward(*arguments)
    assert bert.forward([[5]]).pooler_output.shape == (1, 64)
