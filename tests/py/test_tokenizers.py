"""Tokenizers: of folders, against transformers; of GGUF metadata, against the same vocabulary built another way."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import PAGE, bert_vocabulary, byte_level_tokenizer, write_bert, write_llama
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizerFast

import pyft
from pyft._checkpoint import Checkpoint
from pyft.gguf_tokenizer import gguf_text

TEXTS = [
    PAGE,
    "",
    " ",
    "  two  spaces ",
    "tabs\tand\nlines\r\n\n",
    "12345 and 6.78e9",
    "I'M, I'm, they'LL, don't",
    "naïve façade Ĳ ﬁ",
    "中文字符 and 日本語",
    "🙂🙃 👩‍👩‍👧",
    "<|im_start|>user\nhi<|im_end|>",
    "a" * 300,
    "\x00\x01 \u200b",
]


def ids_of(tokenizer: Tokenizer, text: str, special: bool = True) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=special).ids


# Folders.


def test_folder_tokenizer_equals_transformers(llama: pyft.Model, llama_folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(llama_folder)
    for text in TEXTS:
        assert ids_of(llama.tokenizer, text) == theirs(text)["input_ids"], text
        assert ids_of(llama.tokenizer, text, False) == theirs(text, add_special_tokens=False)["input_ids"]
    ids = ids_of(llama.tokenizer, PAGE)
    assert llama.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert llama.decode(ids, skip_special_tokens=False).startswith("<s>")


def test_saved_truncation_and_padding_do_not_apply(llama: pyft.Model) -> None:
    assert llama.tokenizer.truncation is None
    assert llama.tokenizer.padding is None
    assert len(llama.encode(PAGE)) > 8
    assert len(llama.encode("a")) == 2


@pytest.mark.parametrize(("add_bos", "add_eos"), [(True, False), (False, False), (False, True), (True, True)])
def test_add_bos_and_eos_of_the_settings(tmp_path: Path, add_bos: bool, add_eos: bool) -> None:
    folder = write_llama(tmp_path / "m")
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "add_bos_token": add_bos, "add_eos_token": add_eos}))
    model = pyft.load(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    # With a tokenizer.json, what that says counts.
    assert ids_of(model.tokenizer, "a dam") == theirs("a dam")["input_ids"] == [1, 68, 399]
    Tokenizer.from_file(str(folder / "tokenizer.json")).model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    ids = ids_of(pyft.load(folder).tokenizer, "a dam")
    assert ids == [1] * add_bos + [68, 399] + [2] * add_eos


def test_added_tokens_of_the_settings(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m", vocab_size=600)
    path = folder / "tokenizer_config.json"
    size = byte_level_tokenizer().get_vocab_size()
    written = json.loads(path.read_text())
    added = {str(size): {"content": "<|tool|>", "special": True}, str(size + 1): {"content": "ottermatic"}}
    path.write_text(json.dumps({**written, "added_tokens_decoder": added}))
    model = pyft.load(folder)
    assert size in model.encode("a<|tool|>b")
    assert size + 1 in model.encode("an ottermatic")
    assert model.decode([size, size + 1]) == "ottermatic"
    added = {"9999": {"content": "<|far|>", "special": True}}
    path.write_text(json.dumps({**written, "added_tokens_decoder": added}))
    with pytest.raises(pyft.CheckpointError, match="9999"):
        pyft.load(folder)


def test_wordpiece_vocabulary_equals_transformers(bert: pyft.Model, bert_folder: Path) -> None:
    theirs = BertTokenizerFast.from_pretrained(bert_folder)
    for text in [*TEXTS, "The Water's COLD, isn't it?"]:
        assert ids_of(bert.tokenizer, text) == theirs(text)["input_ids"], text
    ids = ids_of(bert.tokenizer, "the river sleeps")
    assert bert.decode(ids) == "the river sleeps"


def test_wordpiece_case_and_lack(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    cased = pyft.load(folder)
    unknown = bert_vocabulary().index("[UNK]")
    assert unknown in cased.encode("The")
    assert unknown not in cased.encode("the")
    (folder / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(pyft.CheckpointError, match=r"\[UNK\]"):
        pyft.load(folder)


def test_byte_level_files(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    (folder / "tokenizer.json").unlink()
    tokenizer.model.save(str(folder))
    settings = {"bos_token": "<s>", "eos_token": "<|im_end|>", "extra_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = pyft.load(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for text in TEXTS:
        assert ids_of(model.tokenizer, text, False) == ids_of(tokenizer, text, False)
    settings.update(cls_token="<s>", sep_token="<|im_end|>")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert pyft.load(folder).encode("a").tolist()[:: len(pyft.load(folder).encode("a")) - 1] == [1, 2]


def test_special_tokens_of_either_form(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "pad_token": None}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": {"content": "<|im_end|>", "lstrip": False}, "bos_token": "<other>"})
    )
    assert pyft.load(folder).special_tokens == {"bos_token": "<s>", "eos_token": "<|im_end|>"}


# GGUF.


def write_gguf(path: Path, **metadata: object) -> Checkpoint:
    """A file with a tiny llama's configuration and a tokenizer, and of its tensors only what gives the vocabulary."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in metadata.items():
        key = "tokenizer.chat_template" + key[13:] if key.startswith("chat_template") else f"tokenizer.ggml.{key}"
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    tokens = metadata.get("tokens") or ["x"]
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Checkpoint(path)


def gpt2_metadata(pre: str, **more: object) -> dict[str, object]:
    state = json.loads(byte_level_tokenizer().to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].__getitem__)
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [3 if index < 4 else 1 for index in range(len(tokens))],
        "merges": [" ".join(merge) for merge in state["merges"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def test_gguf_byte_level(tmp_path: Path) -> None:
    built, why, special, _ = gguf_text(write_gguf(tmp_path / "m.gguf", **gpt2_metadata("gpt-2")))
    expected = byte_level_tokenizer()
    assert why == ""
    assert special == {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    for text in TEXTS:
        assert ids_of(built, text) == ids_of(expected, text), text
    assert built.decode(ids_of(built, PAGE)) == PAGE


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "it's 2024 ok", ["it", "'s", "Ġ2024", "Ġok"]),
        ("smollm", "it's 2024 ok", ["it", "'s", "Ġ", "2", "0", "2", "4", "Ġok"]),
        ("llama-bpe", "it'S 20245 ok", ["it", "'S", "Ġ", "202", "45", "Ġok"]),
        ("qwen2", "it'S 2024 ok\n\n x", ["it", "'S", "Ġ", "2", "0", "2", "4", "Ġok", "ĊĊ", "Ġx"]),
        ("tekken", "camelCase 20", ["camel", "Case", "Ġ", "2", "0"]),
    ],
)
def test_gguf_pre_tokenizers(tmp_path: Path, pre: str, text: str, words: list[str]) -> None:
    built, *_ = gguf_text(write_gguf(tmp_path / "m.gguf", **gpt2_metadata(pre)))
    assert [word for word, _ in built.pre_tokenizer.pre_tokenize_str(text)] == words


def test_gguf_ends(tmp_path: Path) -> None:
    for pre, more, expected in [
        ("gpt-2", {}, (False, False)),
        ("gpt-2", {"add_bos_token": True}, (True, False)),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, (True, True)),
        ("llama-bpe", {}, (True, False)),
        ("llama-bpe", {"add_bos_token": False}, (False, False)),
    ]:
        built, *_ = gguf_text(write_gguf(tmp_path / "m.gguf", **gpt2_metadata(pre, **more)))
        ids = ids_of(built, "a dam")
        assert (ids[0] == 1, ids[-1] == 2) == expected, (pre, more)


def test_gguf_templates_and_unknown_kinds(tmp_path: Path) -> None:
    named = {"chat_template": "A", "chat_template.tool_use": "B"}
    *_, templates = gguf_text(write_gguf(tmp_path / "m.gguf", **gpt2_metadata("gpt-2", **named)))
    assert templates == {"default": "A", "tool_use": "B"}
    for changes in ({"pre": "abacus"}, {"model": "rune"}):
        built, why, *_ = gguf_text(write_gguf(tmp_path / "m.gguf", **{**gpt2_metadata("gpt-2"), **changes}))
        assert built is None
        assert next(iter(changes.values())) in why
    built, why, *_ = gguf_text(write_gguf(tmp_path / "m.gguf"))
    assert built is None
    assert "tokens" in why


@pytest.mark.parametrize(
    "changes", [{"merges": ["ab"]}, {"merges": ["zz yy"]}, {"bos_token_id": 10**6}, {"model": "llama"}]
)
def test_damaged_gguf_vocabularies(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(pyft.CheckpointError):
        gguf_text(write_gguf(tmp_path / "m.gguf", **{**gpt2_metadata("gpt-2"), **changes}))


SPM_WORDS = ["the", "river", "runs", "back", "to", "dam"]


def spm_vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Control tokens, bytes, letters, and words with all that leads to them; the words have scores."""
    tokens = ["<unk>", "<s>", "</s>"]
    types = [2, 3, 3]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [6] * 256
    pieces: list[str] = []
    for word in SPM_WORDS:
        marked = "▁" + word
        pieces += [marked[:end] for end in range(2, len(marked) + 1)] + [word[:end] for end in range(2, len(word) + 1)]
    pieces = list(dict.fromkeys(pieces))
    letters = ["▁", *"abcdefghijklmnoprstuvw"]
    tokens += pieces + letters
    types += [1] * (len(pieces) + len(letters))
    rng = np.random.default_rng(5)
    scores = [0.0] * 259 + (-rng.permutation(len(pieces)).astype(float)).tolist() + [-1e4] * len(letters)
    return tokens, scores, types


def sentencepiece_reference(text: str, tokens: list[str], scores: list[float]) -> list[int]:
    """SentencePiece's BPE as published: merge the adjacent pair whose union scores best, leftmost first."""
    known = {token: index for index, token in enumerate(tokens)}
    parts = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        best, at = None, -1
        for index in range(len(parts) - 1):
            joined = known.get(parts[index] + parts[index + 1])
            if joined is not None and joined >= 259 and (best is None or scores[joined] > best):
                best, at = scores[joined], index
        if at < 0:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    ids: list[int] = []
    for part in parts:
        ids += [known[part]] if part in known else [known[f"<0x{byte:02X}>"] for byte in part.encode()]
    return ids


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    tokens, scores, types = spm_vocabulary()
    checkpoint = write_gguf(
        tmp_path_factory.mktemp("spm") / "m.gguf",
        model="llama",
        tokens=tokens,
        scores=scores,
        token_type=types,
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
    )
    built, why, *_ = gguf_text(checkpoint)
    assert why == ""
    return built


@given(st.text(alphabet="therivnsbackdom é🙂\n", max_size=30))
@settings(max_examples=200, deadline=None)
def test_gguf_sentencepiece_equals_the_published_algorithm(sentencepiece: Tokenizer, text: str) -> None:
    tokens, scores, _ = spm_vocabulary()
    ids = ids_of(sentencepiece, text)
    assert ids == [1, *sentencepiece_reference(text, tokens, scores)]
    assert sentencepiece.decode(ids, skip_special_tokens=True) == text


def test_gguf_sentencepiece_words_and_specials(sentencepiece: Tokenizer) -> None:
    tokens, _, _ = spm_vocabulary()
    assert [tokens[index] for index in ids_of(sentencepiece, "the river</s>")] == ["<s>", "▁the", "▁river", "</s>"]


def test_gguf_wordpiece(tmp_path: Path, bert: pyft.Model) -> None:
    plain = bert_vocabulary()
    marked = [
        token if token.startswith("[") and len(token) > 2 else token[2:] if token.startswith("##") else "▁" + token
        for token in plain
    ]
    checkpoint = write_gguf(
        tmp_path / "m.gguf",
        model="bert",
        tokens=marked,
        token_type=[3 if index < 5 else 1 for index in range(len(marked))],
        unknown_token_id=1,
        seperator_token_id=3,
        padding_token_id=0,
        cls_token_id=2,
        mask_token_id=4,
    )
    built, why, *_ = gguf_text(checkpoint)
    assert why == ""
    for text in [*TEXTS, "The Water's COLD [MASK] isn't it?"]:
        assert ids_of(built, text) == ids_of(bert.tokenizer, text), text


def test_real_gguf_tokenizer(smollm2_path: Path) -> None:
    """Known ids of SmolLM2's own tokenizer, and a page that comes back."""
    built, why, special, templates = gguf_text(Checkpoint(smollm2_path))
    assert why == ""
    assert special["bos_token"] == "<|im_start|>"
    assert "default" in templates
    assert ids_of(built, "The capital of France is") == [504, 3575, 282, 4649, 314]
    assert ids_of(built, "<|im_start|>user\n") == [1, 4093, 198]
    for text in TEXTS:
        assert built.decode(ids_of(built, text), skip_special_tokens=False) == text
