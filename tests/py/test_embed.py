"""Sentence embeddings: shape, order, pooling, truncation."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import write_bert

import pyft

TEXTS = ["the river runs", "a dam", "", "She sleeps. They sleep, alone, long!", "otter " * 40, "bread"]


def test_order_shape_and_norm(bert: pyft.Model) -> None:
    vectors = bert.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_array_equal(bert.embed(text), vector[None])
    assert bert.embed([]).shape == (0, 64)
    assert bert.embed(iter(["a dam"])).shape == (1, 64)


def test_many_texts_take_several_passes(bert: pyft.Model) -> None:
    texts = [" ".join(["river"] * (1 + index % 60)) for index in range(400)]
    told = []
    vectors = bert.embed(texts, progress=told.append)
    assert len(told) > 1
    assert sum(told) == 400
    np.testing.assert_array_equal(vectors[:60], vectors[60:120])
    np.testing.assert_array_equal(vectors[7], bert.embed(texts[7])[0])


def test_pooling(bert: pyft.Model) -> None:
    text = "the river runs back"
    ids = bert.encode(text)
    hidden = bert.forward(ids[None]).last_hidden_state.numpy()[0]
    expected = {
        "mean": hidden.mean(0),
        "cls": hidden[0],
        "last": hidden[-1],
        "max": hidden.max(0),
        "auto": hidden.mean(0),
    }
    for pooling, vector in expected.items():
        got = bert.embed(text, pooling=pooling, normalize=False)[0]
        np.testing.assert_allclose(got, vector, rtol=1e-5, atol=1e-6)
        unit = bert.embed(text, pooling=pooling)[0]
        np.testing.assert_allclose(unit, vector / np.linalg.norm(vector), rtol=1e-5, atol=1e-6)


def test_truncation(bert: pyft.Model, tmp_path: Path) -> None:
    long = " ".join(["river"] * 500)
    assert np.isfinite(bert.embed(long)).all()
    np.testing.assert_array_equal(bert.embed(long), bert.embed(" ".join(["river"] * 62)))
    assert len(bert.encode(long)) == 502  # the model's own tokenizer does not truncate
    folder = write_bert(tmp_path / "m")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 10, "do_lower_case": False}))
    short = pyft.load(folder)
    np.testing.assert_array_equal(short.embed(long), bert.embed(" ".join(["river"] * 8)))


def test_a_decoder_embeds_too(llama: pyft.Model) -> None:
    text = "the river"
    hidden = llama.forward(llama.encode(text)[None]).last_hidden_state.numpy()[0]
    got = llama.embed(text, pooling="last", normalize=False)[0]
    np.testing.assert_allclose(got, hidden[-1], rtol=1e-5, atol=1e-6)


def test_misuse(bert: pyft.Model) -> None:
    for wrong in (5, [5], [None], [["nested"]], None):
        with pytest.raises(TypeError):
            bert.embed(wrong)
    with pytest.raises(ValueError, match="pooling"):
        bert.embed("text", pooling="median")
