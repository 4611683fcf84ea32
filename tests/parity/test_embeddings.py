"""Sentence embeddings of small models: each pooling module of sentence-transformers, by its formula in PyTorch."""

import json

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

import pyft

from . import models
from .compare import assert_close, assert_same
from .conftest import seed_of
from .pair import Pair

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "sea", "light", "house", "rain", "wind", "run", "walk", "red"]
WORDS += ["##s", "##ing", ".", ",", "!"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = [
    "The cat sat on the mat.",
    "dogs running",
    "a",
    "Rain, wind, and the light house on the sea!",
    " ".join(["the red dog walks"] * 60),  # longer than max_seq_length
]
MAX_LENGTH = 48

POOLING = {
    "mean": {"pooling_mode_mean_tokens": True},
    "cls": {"pooling_mode_cls_token": True},
    "max": {"pooling_mode_max_tokens": True},
    "last": {"pooling_mode_lasttoken": True},
}
_FLAGS = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]


def _tokenizer():
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(VOCAB)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(VOCAB[:5])
    return tokenizer


def _folder(folder, name, flags, normalise):
    models.save(models.VARIANTS[name], folder, seed_of(name), pad_token_id=0, vocab_size=len(VOCAB))
    _tokenizer().save(str(folder / "tokenizer.json"))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalise else [])
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for i, (path, kind) in enumerate(modules)
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 64, **{f"pooling_mode_{flag}": False for flag in _FLAGS}, **flags}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": MAX_LENGTH, "do_lower_case": False})
    )
    return folder


def _expected(pair, text, pooling, normalise):
    tokenizer = _tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    hidden = torch.tensor(pair.hf_forward(tokenizer.encode(text).ids)["last_hidden_state"])
    pooled = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values, "last": hidden[-1]}[pooling]
    return (torch.nn.functional.normalize(pooled, dim=0) if normalise else pooled).numpy()


@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("name", ["bert", "roberta-no-pooler", "distilbert"])
def test_modules_decide(tmp_path, name, pooling):
    pair = Pair(models.VARIANTS[name], _folder(tmp_path, name, POOLING[pooling], normalise=True))
    ours = pair.ft.embed(TEXTS)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), 64)
    for row, text in zip(ours, TEXTS, strict=True):
        assert_close(row, _expected(pair, text, pooling, True), f"{name} {pooling} of {text[:20]!r}")
        assert_same(row, pair.ft.embed(text)[0])  # a row does not depend on the others


@pytest.mark.parametrize("normalise", [False, True])
def test_arguments_outrank_modules(tmp_path, normalise):
    pair = Pair(models.VARIANTS["bert"], _folder(tmp_path, "bert", POOLING["mean"], normalise=False))
    for pooling in POOLING:
        ours = pair.ft.embed(TEXTS, pooling=pooling, normalize=normalise)
        for row, text in zip(ours, TEXTS, strict=True):
            assert_close(row, _expected(pair, text, pooling, normalise), f"{pooling} of {text[:20]!r}")


@pytest.mark.parametrize(
    "flags",
    [
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_poolings_are_refused(tmp_path, flags):
    """Never computed as something else."""
    with pytest.raises(pyft.UnsupportedError):
        pyft.load(_folder(tmp_path, "bert", flags, normalise=True), device="cpu")


def test_other_modules_are_refused(tmp_path):
    folder = _folder(tmp_path, "bert", POOLING["mean"], normalise=True)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(pyft.UnsupportedError, match="Dense"):
        pyft.load(folder, device="cpu")


def test_a_decoder_embeds_too(tiny, rng):
    """Without modules: the mean of the hidden states of a decoder, through token ids of its own tokenizer."""
    pair = tiny("qwen2", vocab_size=len(VOCAB), tag="embed")
    _tokenizer().save(str(pair.folder / "tokenizer.json"))
    for text in TEXTS[:3]:
        hidden = pair.hf_forward(_tokenizer().encode(text).ids)["last_hidden_state"]
        mean = hidden.mean(0)
        assert_close(pair.ft.embed(text)[0], mean / np.linalg.norm(mean), text)


def test_tokenizer_is_transformers(tmp_path):
    folder = _folder(tmp_path, "bert", POOLING["mean"], normalise=True)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ours = pyft.load(folder, device="cpu")
    for text in TEXTS:
        assert ours.encode(text).tolist() == theirs(text).input_ids
