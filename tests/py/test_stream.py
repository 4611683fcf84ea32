"""Streaming: pieces join to the text, none ends inside a character, leaving early cancels."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import PAGE, byte_level_tokenizer
from tokenizers import Tokenizer, decoders, models

import pyft
from pyft.detokenize import Detokenizer, StopStrings

TOKENIZER = byte_level_tokenizer()
HALF = "\N{REPLACEMENT CHARACTER}"


def sentencepiece_like() -> Tokenizer:
    """A decoder with byte fallback and the leading space cut off, as the first Llamas have."""
    pieces = ["<unk>", "▁", "▁the", "▁a", "b", "▁▁", "c", *[f"<0x{byte:02X}>" for byte in range(256)]]
    tokenizer = Tokenizer(
        models.BPE({piece: index for index, piece in enumerate(pieces)}, [], byte_fallback=True, unk_token="<unk>")
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


SENTENCEPIECE = sentencepiece_like()


def pieces_of(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    found = [detokenizer.add([token]) for token in tokens]
    return [*found, detokenizer.finish()]


def test_pieces_of_a_page() -> None:
    tokens = TOKENIZER.encode(PAGE, add_special_tokens=False).ids
    pieces = pieces_of(TOKENIZER, tokens)
    assert "".join(pieces) == PAGE
    assert all(HALF not in piece for piece in pieces)
    assert sum(bool(piece) for piece in pieces) > len(tokens) / 2  # they come as they are made


@given(st.lists(st.integers(0, 511), max_size=40))
@settings(max_examples=300, deadline=None)
def test_pieces_join_to_the_text_byte_level(tokens: list[int]) -> None:
    assert "".join(pieces_of(TOKENIZER, tokens)) == TOKENIZER.decode(tokens, skip_special_tokens=True)


@given(st.lists(st.one_of(st.integers(0, 262), st.integers(0, 6)), max_size=30))
@settings(max_examples=300, deadline=None)
def test_pieces_join_to_the_text_byte_fallback(tokens: list[int]) -> None:
    pieces = pieces_of(SENTENCEPIECE, tokens)
    assert "".join(pieces) == SENTENCEPIECE.decode(tokens, skip_special_tokens=True)


@given(st.text(max_size=60), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_no_piece_ends_inside_a_character(text: str, width: int) -> None:
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(TOKENIZER)
    pieces = [detokenizer.add(tokens[at : at + width]) for at in range(0, len(tokens), width)]
    if HALF not in text:
        assert all(HALF not in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == TOKENIZER.decode(tokens)


@given(st.text(alphabet="abc 🙂", min_size=1, max_size=40), st.data())
@settings(max_examples=200, deadline=None)
def test_stop_strings_are_found_at_their_last_token(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : data.draw(st.integers(start + 1, len(text)))]
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    watch = StopStrings(TOKENIZER, (stop, "never there"))
    stopped = next(index for index in range(len(tokens)) if watch(tokens[: index + 1]))
    assert stop in TOKENIZER.decode(tokens[: stopped + 1])
    assert stop not in TOKENIZER.decode(tokens[:stopped])


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 5, "top_k": 0, "temperature": 1.5}])
def test_stream_equals_generate(llama: pyft.Model, options: dict) -> None:
    options = {"max_new_tokens": 60, "stop_token_ids": [], **options}
    expected = llama.generate("A dam", **options)
    stream = llama.stream("A dam", **options)
    pieces = list(stream)
    assert "".join(pieces) == expected.text
    assert all(pieces)
    assert len(pieces) > 5
    np.testing.assert_array_equal(stream.generation.token_ids, expected.token_ids)
    assert stream.generation.finish_reason == expected.finish_reason
    assert stream.generation.text == expected.text


@pytest.mark.parametrize("width", [2, 5])
def test_stream_of_beams(llama: pyft.Model, width: int) -> None:
    """Only settled text is told: the pieces join to the best sequence's."""
    options = {"max_new_tokens": 50, "stop_token_ids": [], "num_beams": width, "no_repeat_ngram_size": 2}
    expected = llama.generate("A dam", **options)
    stream = llama.stream("A dam", **options)
    pieces = list(stream)
    assert "".join(pieces) == expected.text
    assert len(pieces) > 1
    assert stream.generation.score == expected.score


def test_stream_of_token_ids_and_stop_strings(llama: pyft.Model) -> None:
    text = llama.generate([5, 6, 7], max_new_tokens=30, stop_token_ids=[]).text
    stop = text[8:11]
    expected = llama.generate([5, 6, 7], max_new_tokens=30, stop_token_ids=[], stop_strings=stop).text
    assert "".join(llama.stream([5, 6, 7], max_new_tokens=30, stop_token_ids=[], stop_strings=stop)) == expected


def test_leaving_the_loop_cancels(llama: pyft.Model) -> None:
    for piece in llama.stream("A dam", max_new_tokens=200, stop_token_ids=[]):
        assert piece
        break
    gc.collect()
    assert not llama._running
    before = llama.session().stats()["generated_tokens"]
    llama.generate([5], max_new_tokens=1)
    stats = llama.session().stats()
    assert stats["generated_tokens"] - before <= 2
    assert stats["pages_in_use"] == 0


def test_closing_before_and_after(llama: pyft.Model) -> None:
    stream = llama.stream("A dam", max_new_tokens=3)
    stream.close()
    assert list(stream) == []
    assert stream.generation is None
    done = llama.stream("A dam", max_new_tokens=3)
    list(done)
    done.close()
    assert done.generation is not None


def test_two_streams_in_turn(llama: pyft.Model) -> None:
    options = {"max_new_tokens": 30, "stop_token_ids": []}
    expected = [made.text for made in llama.generate(["A dam", "She"], **options)]
    streams = [llama.stream("A dam", **options), llama.stream("She", **options)]
    texts = ["", ""]
    open_streams = {0, 1}
    while open_streams:
        for index in list(open_streams):
            piece = next(streams[index], None)
            if piece is None:
                open_streams.discard(index)
            else:
                texts[index] += piece
    assert texts == expected


def test_cancel_ends_a_stream(llama: pyft.Model) -> None:
    stream = llama.stream("A dam", max_new_tokens=200, stop_token_ids=[])
    text = next(stream)
    llama.cancel()
    text += "".join(stream)
    assert stream.generation.finish_reason == "cancelled"
    assert stream.generation.text == text


def test_stream_takes_one_prompt(llama: pyft.Model) -> None:
    with pytest.raises(TypeError, match="one prompt"):
        llama.stream(["A", "B"])
    with pytest.raises(ValueError, match="num_return_sequences"):
        llama.stream("A", do_sample=True, num_return_sequences=2)


def test_soft_prompts_stream(llama: pyft.Model) -> None:
    rows = np.random.default_rng().normal(size=(6, 64)).astype(np.float32)
    settings = {"max_new_tokens": 12, "stop_token_ids": []}
    for prompt, embeds in ((None, rows), ([5, 6, 7, 8, 9, 10, 11], {1: rows[:3]})):
        whole = llama.generate(prompt, inputs_embeds=embeds, **settings)
        stream = llama.stream(prompt, inputs_embeds=embeds, **settings)
        assert "".join(stream) == whole.text
        assert np.array_equal(stream.generation.token_ids, whole.token_ids)
    with pytest.raises(TypeError, match="one prompt"):
        llama.stream(inputs_embeds=rows[None], **settings)


def test_a_callback_in_the_step_of_a_leaving_stream_may_not_wait(llama: pyft.Model) -> None:
    """A stream that is left has a step run, so that its pages come back: callbacks of others run in it, too."""
    refused: list[pyft.Error] = []
    leaving = False

    def ask(token_ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        if leaving:
            with pytest.raises(pyft.Error, match="inside a callback") as told:
                llama.generate([5], max_new_tokens=1)
            refused.append(told.value)
        return logits

    one = llama.stream("A dam", max_new_tokens=50, stop_token_ids=[], logits_processor=ask)
    next(one)
    other = llama.stream("the town", max_new_tokens=50, stop_token_ids=[])
    next(other)
    leaving = True
    other.close()
    leaving = False
    assert refused
    one.close()
    assert llama.generate([5], max_new_tokens=1).token_ids.size == 1
