"""Generation settings: Hugging Face transformers' names, meanings and defaults, checked before anything runs.

As in transformers, sampling settings act only under ``do_sample=True``, where ``top_k`` is 50 unless said otherwise.
"""

import operator
import secrets
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from pyft.errors import UnsupportedError

LogitsProcessor = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.ArrayLike | None]

_INT32_MAX = 2**31 - 1


class GenerateOptions(TypedDict, total=False):
    """The keyword arguments of generate, stream and chat."""

    max_new_tokens: int
    min_new_tokens: int
    do_sample: bool
    num_beams: int
    num_beam_groups: int
    diversity_penalty: float
    length_penalty: float
    early_stopping: bool | str
    num_return_sequences: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    no_repeat_ngram_size: int
    bad_words: Sequence[str | Sequence[int]] | None
    stop_strings: str | Sequence[str] | None
    stop_token_ids: int | Sequence[int] | None
    seed: int | None
    logprobs: bool
    logits_processor: LogitsProcessor | None


@dataclass(slots=True)
class Settings:
    """Checked settings: what the C library takes, and what is done in Python."""

    native: dict[str, Any]
    seed: int
    num_return_sequences: int
    length_penalty: float
    stop_strings: tuple[str, ...]
    logits_processor: LogitsProcessor | None
    logprobs: bool

    def for_sequence(self, index: int) -> dict[str, Any]:
        """The settings of the index-th returned sequence: they differ by their seed."""
        return {**self.native, "seed": (self.seed + index) % 2**64}


def integer(name: str, value: Any, low: int, high: int = _INT32_MAX) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={number} is outside {low}..{high}")
    return number


def number(name: str, value: Any, low: float, high: float = float("inf"), *, above: bool = False) -> float:
    """A finite float in [low, high], or in (low, high] when `above`."""
    if isinstance(value, str | bytes | bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None
    if not (low < result if above else low <= result) or result > high or result in (float("inf"), float("-inf")):
        bound = f"{'above' if above else 'at least'} {low:g}" if high == float("inf") else f"in {low:g}..{high:g}"
        raise ValueError(f"{name}={result:g} must be {bound}")
    return result


def token_ids(name: str, values: Any, vocab_size: int) -> list[int]:
    return [integer(f"a token of {name}", value, 0, vocab_size - 1) for value in values]


def resolve(options: GenerateOptions, vocab_size: int, encode: Callable[[str], list[int]] | None) -> Settings:
    """Checks the keyword arguments. `encode` turns text into ids without special tokens; None without a tokenizer."""
    unknown = sorted(set(options) - set(GenerateOptions.__annotations__))
    if unknown:
        raise TypeError(f"no generation option {unknown[0]!r}")
    get = options.get
    _refuse_beams(options)
    do_sample = bool(get("do_sample", False))
    count = integer("num_return_sequences", get("num_return_sequences", 1), 1)
    if count > 1 and not do_sample:
        raise ValueError("num_return_sequences above 1 needs do_sample=True: greedy search would repeat itself")
    _warn_unused(options, do_sample)
    max_new_tokens = integer("max_new_tokens", get("max_new_tokens", 64), 1)
    seed = get("seed")
    stop = get("stop_token_ids")
    if stop is not None:
        stop = token_ids("stop_token_ids", [stop] if isinstance(stop, int | np.integer) else stop, vocab_size)
    processor = get("logits_processor")
    if processor is not None and not callable(processor):
        raise TypeError("logits_processor must be a callable(token_ids, logits)")
    temperature = get("temperature", 1.0)
    if do_sample and temperature == 0:
        raise ValueError("temperature=0 is no distribution: use do_sample=False for the most probable tokens")
    top_p = 1.0 if get("top_p") is None else get("top_p")
    native: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": integer("min_new_tokens", get("min_new_tokens", 0), 0),
        "do_sample": do_sample,
        "temperature": number("temperature", temperature, 0, above=do_sample),
        "top_k": _top_k(options),
        "top_p": number("top_p", top_p, 0, 1, above=True),
        "min_p": number("min_p", get("min_p") or 0, 0, 1),
        "repetition_penalty": number("repetition_penalty", get("repetition_penalty", 1.0), 0, above=True),
        "presence_penalty": number("presence_penalty", get("presence_penalty", 0.0), -1e6, 1e6),
        "frequency_penalty": number("frequency_penalty", get("frequency_penalty", 0.0), -1e6, 1e6),
        "no_repeat_ngram_size": integer("no_repeat_ngram_size", get("no_repeat_ngram_size", 0), 0),
        "stop_token_ids": stop,
        "bad_words": _bad_words(get("bad_words"), vocab_size, encode),
        "logprobs": bool(get("logprobs", False)),
    }
    return Settings(
        native=native,
        seed=secrets.randbits(63) if seed is None else integer("seed", seed, 0, 2**64 - 1),
        num_return_sequences=count,
        length_penalty=number("length_penalty", get("length_penalty", 1.0), -1e6, 1e6),
        stop_strings=_stop_strings(get("stop_strings"), encode is not None),
        logits_processor=processor,
        logprobs=native["logprobs"],
    )


def _refuse_beams(options: GenerateOptions) -> None:
    beams = integer("num_beams", options.get("num_beams", 1), 1)
    groups = integer("num_beam_groups", options.get("num_beam_groups", 1), 1)
    if beams > 1 or groups > 1:
        raise UnsupportedError("beam search is not there yet: use num_beams=1, greedy or with do_sample=True")
    number("diversity_penalty", options.get("diversity_penalty", 0.0), 0)
    if options.get("early_stopping", False) not in (False, True, "never"):
        raise ValueError(f"early_stopping={options['early_stopping']!r}; False, True or 'never' is meant")


def _warn_unused(options: GenerateOptions, do_sample: bool) -> None:
    unused = {"temperature": (1, 1.0), "top_k": (50, 0, None), "top_p": (1, None), "min_p": (0, None)}
    named = [name for name, neutral in unused.items() if name in options and options.get(name) not in neutral]
    if named and not do_sample:
        warnings.warn(f"{', '.join(named)} acts only with do_sample=True", UserWarning, stacklevel=6)


def _top_k(options: GenerateOptions) -> int:
    value = options.get("top_k", 50)
    return 0 if value is None else integer("top_k", value, 0)


def _stop_strings(value: Any, has_tokenizer: bool) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = (value,) if isinstance(value, str) else tuple(value)
    for string in strings:
        if not isinstance(string, str):
            raise TypeError(f"stop_strings must be strings, not {string!r}")
        if not string:
            raise ValueError("a stop string must not be empty")
    if strings and not has_tokenizer:
        raise ValueError("stop_strings needs a tokenizer, and this checkpoint has none")
    return strings


def _bad_words(value: Any, vocab_size: int, encode: Callable[[str], list[int]] | None) -> list[list[int]]:
    """Id sequences that may not appear; a text is banned both at the start of a line and after a space."""
    if value is None:
        return []
    if isinstance(value, str):
        raise TypeError("bad_words must be a list: of texts, or of token-id lists")
    words: list[list[int]] = []
    for word in value:
        if isinstance(word, str):
            if encode is None:
                raise ValueError("bad_words as text needs a tokenizer, and this checkpoint has none; give token ids")
            spellings = [encode(word), encode(" " + word)]
        else:
            spellings = [token_ids("bad_words", word, vocab_size)]
        for spelling in spellings:
            if not spelling:
                raise ValueError("a bad word must have at least one token")
            if spelling not in words:
                words.append(spelling)
    return words
