"""The front door on real models, where their packages are installed: a language model answers, an encoder embeds."""

from pathlib import Path

import numpy as np
import pytest

import pyft


def test_the_capital_of_france(smollm2: pyft.Model) -> None:
    made = smollm2.generate("The capital of France is", max_new_tokens=8)
    assert "Paris" in made.text


@pytest.mark.parametrize("split", [{"tensor_parallel": 3}, {"pipeline_parallel": 4}])
def test_on_ranks(smollm2: pyft.Model, smollm2_path: Path, split: dict[str, int]) -> None:
    """Nine heads of three keys on three ranks; GGUF's blocks stay whole."""
    with pyft.load(smollm2_path, device="cpu", kv_cache_bytes=64 << 20, **split) as model:
        assert max(r.weight_bytes for r in model.ranks) < 0.5 * smollm2.weight_bytes
        prompts = ["The capital of France is", "Once upon a time", "Water boils at"]
        ours = [made.text for made in model.generate(prompts, max_new_tokens=16)]
        assert ours == [made.text for made in smollm2.generate(prompts, max_new_tokens=16)]


def test_a_chat(smollm2: pyft.Model) -> None:
    messages = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    made = smollm2.chat(messages, max_new_tokens=40)
    assert "Paris" in made.text
    assert made.finish_reason == "stop"
    assert made.token_ids[-1] == 2
    assert not made.text.endswith("<|im_end|>")
    assert "system\nYou are a helpful AI assistant" in smollm2.apply_chat_template(messages)


def test_a_stream(smollm2: pyft.Model) -> None:
    stream = smollm2.stream("Once upon a time", max_new_tokens=40)
    text = "".join(stream)
    assert text == stream.generation.text == smollm2.generate("Once upon a time", max_new_tokens=40).text
    assert len(text.split()) > 20


def test_a_stop_string(smollm2: pyft.Model) -> None:
    made = smollm2.generate("The capital of France is", max_new_tokens=60, stop_strings=["Paris"])
    assert made.text.endswith("Paris")
    assert made.finish_reason == "stop"


def test_batches_do_not_change_answers(smollm2: pyft.Model) -> None:
    prompts = ["The capital of France is", "Two plus two makes", "def add(a, b):\n    return"]
    alone = [smollm2.generate(prompt, max_new_tokens=16).text for prompt in prompts]
    assert [made.text for made in smollm2.generate(prompts, max_new_tokens=16)] == alone


def test_quantised_weights_stay_quantised(smollm2: pyft.Model, smollm2_path: Path) -> None:
    assert smollm2.weight_bytes < 1.3 * smollm2_path.stat().st_size
    assert smollm2.config.checkpoint_dtype == "q4_1"


PAIRS = [
    ("A man is eating food.", "A man is eating a piece of bread.", "A cheetah chases its prey across a field."),
    ("The girl carries a baby.", "A girl is holding an infant.", "The stock market fell sharply on Monday."),
    ("How do I reset my password?", "I forgot my login credentials.", "The recipe needs two cups of flour."),
]


@pytest.mark.parametrize("triple", PAIRS)
def test_like_sentences_are_near(minilm: pyft.Model, triple: tuple[str, str, str]) -> None:
    anchor, near, far = minilm.embed(triple)
    assert anchor @ near > anchor @ far + 0.2


def test_sentence_settings(minilm: pyft.Model) -> None:
    vectors = minilm.embed(["word " * 254, "word " * 400])
    np.testing.assert_array_equal(vectors[0], vectors[1])  # max_seq_length is 256
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors.shape == (2, 384)
