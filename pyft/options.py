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

LogitsProcessor = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.ArrayLike | None]
PrefixConstraint = Callable[[int, npt.NDArray[np.int32]], Sequence[int]]

_INT32_MAX = 2**31 - 1
MAX_BEAMS = 128

# As ft_early_stopping and ft_logprobs.
_EARLY_STOPPING = {False: 0, True: 1, "never": 2}
_LOGPROBS = {False: 0, True: 1, "raw": 1, "processed": 2}


# What acts only when sampling, with the values under which it does nothing.
SAMPLING: dict[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_k": (50, 0, None),
    "top_p": (1, None),
    "min_p": (0, None),
    "typical_p": (1, None),
    "top_p_decay": (1,),
    "top_p_min": (0,),
    "top_p_reset_id": (None,),
}


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
    typical_p: float | None
    top_p_decay: float
    top_p_min: float
    top_p_reset_id: int | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    no_repeat_ngram_size: int
    bad_words: Sequence[str | Sequence[int]] | None
    stop_strings: str | Sequence[str] | None
    stop_token_ids: int | Sequence[int] | None
    seed: int | None
    logprobs: bool | str
    decoder_input_ids: Any
    forced_bos_token_id: int | None
    forced_eos_token_id: int | None
    prompt_logprobs: bool
    inputs_embeds: Any
    past_key_values: Any
    logits_processor: LogitsProcessor | None
    prefix_allowed_tokens_fn: PrefixConstraint | None


@dataclass(slots=True)
class Settings:
    """Checked settings: what the C library takes, and what is done in Python."""

    native: dict[str, Any]
    num_return_sequences: int
    decoder_input_ids: Any
    inputs_embeds: Any
    past_key_values: Any
    stop_strings: tuple[str, ...]
    logits_processor: LogitsProcessor | None
    prefix_allowed_tokens_fn: PrefixConstraint | None

    def constraint(self, prompt: int) -> LogitsProcessor | None:
        """What prefix_allowed_tokens_fn leaves of a prompt's logits."""
        allowed = self.prefix_allowed_tokens_fn
        if allowed is None:
            return None

        def constrain(ids: npt.NDArray[np.int32], logits: npt.NDArray[np.float32]) -> None:
            tokens = np.asarray(allowed(prompt, ids), dtype=np.int64)
            if not tokens.size:
                raise ValueError("prefix_allowed_tokens_fn returned no token; at least one must be allowed")
            kept = logits[tokens]
            logits.fill(-np.inf)
            logits[tokens] = kept

        return constrain


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
    do_sample = bool(get("do_sample", False))
    _warn_unused(options, do_sample)
    max_new_tokens = integer("max_new_tokens", get("max_new_tokens", 64), 1)
    seed = get("seed")
    stop = get("stop_token_ids")
    if stop is not None:
        stop = token_ids("stop_token_ids", [stop] if isinstance(stop, int | np.integer) else stop, vocab_size)
    processor, constraint = get("logits_processor"), get("prefix_allowed_tokens_fn")
    if processor is not None and not callable(processor):
        raise TypeError("logits_processor must be a callable(token_ids, logits)")
    if constraint is not None and not callable(constraint):
        raise TypeError("prefix_allowed_tokens_fn must be a callable(prompt_index, token_ids)")
    temperature = get("temperature", 1.0)
    if do_sample and temperature == 0:
        raise ValueError("temperature=0 is no distribution: use do_sample=False for the most probable tokens")
    native: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": integer("min_new_tokens", get("min_new_tokens", 0), 0),
        "do_sample": do_sample,
        "temperature": number("temperature", temperature, 0, above=do_sample),
        **_cuts(options, vocab_size),
        "repetition_penalty": number("repetition_penalty", get("repetition_penalty", 1.0), 0, above=True),
        "presence_penalty": number("presence_penalty", get("presence_penalty", 0.0), -1e6, 1e6),
        "frequency_penalty": number("frequency_penalty", get("frequency_penalty", 0.0), -1e6, 1e6),
        "no_repeat_ngram_size": integer("no_repeat_ngram_size", get("no_repeat_ngram_size", 0), 0),
        "stop_token_ids": stop,
        "bad_words": _bad_words(get("bad_words"), vocab_size, encode),
        "prompt_logprobs": bool(get("prompt_logprobs", False)),
        "logprobs": _one_of("logprobs", get("logprobs", False), _LOGPROBS),
        "seed": secrets.randbits(63) if seed is None else integer("seed", seed, 0, 2**64 - 1),
        "length_penalty": number("length_penalty", get("length_penalty", 1.0), -1e6, 1e6),
        "decoder_input_ids": None,
        "embedding_positions": None,
        "embeddings": None,
        "past_key_values": None,
        "forced_bos_token_id": _forced("forced_bos_token_id", options, vocab_size),
        "forced_eos_token_id": _forced("forced_eos_token_id", options, vocab_size),
        **_beams(options, do_sample),
    }
    return Settings(
        native=native,
        num_return_sequences=native["num_return_sequences"],
        decoder_input_ids=get("decoder_input_ids"),
        inputs_embeds=get("inputs_embeds"),
        past_key_values=get("past_key_values"),
        stop_strings=_stop_strings(get("stop_strings"), encode is not None),
        logits_processor=processor,
        prefix_allowed_tokens_fn=constraint,
    )


def _beams(options: GenerateOptions, do_sample: bool) -> dict[str, Any]:
    """The settings of beam search; what contradicts itself is refused, as in transformers."""
    get = options.get
    beams = integer("num_beams", get("num_beams", 1), 1, MAX_BEAMS)
    groups = integer("num_beam_groups", get("num_beam_groups", 1), 1)
    penalty = number("diversity_penalty", get("diversity_penalty", 0.0), 0)
    count = integer("num_return_sequences", get("num_return_sequences", 1), 1, MAX_BEAMS)
    if beams % groups:
        raise ValueError(f"num_beams={beams} must be a multiple of num_beam_groups={groups}")
    if groups > 1 and do_sample:
        raise ValueError("diverse beams are not sampled: use num_beam_groups=1, or do_sample=False")
    if groups > 1 and penalty == 0:
        raise ValueError("num_beam_groups above 1 needs diversity_penalty above 0: the groups would all be the same")
    if penalty > 0 and groups == 1:
        raise ValueError("diversity_penalty acts between groups: set num_beam_groups too")
    if beams > 1 and count > beams:
        raise ValueError(f"num_return_sequences={count} is above num_beams={beams}")
    if count > 1 and beams == 1 and not do_sample:
        raise ValueError(
            "num_return_sequences above 1 needs num_beams or do_sample=True: greedy search would repeat itself"
        )
    return {
        "num_beams": beams,
        "num_beam_groups": groups,
        "diversity_penalty": penalty,
        "num_return_sequences": count,
        "early_stopping": _one_of("early_stopping", get("early_stopping", False), _EARLY_STOPPING),
    }


def _forced(name: str, options: GenerateOptions, vocab_size: int) -> int:
    """As ft_generate_options has it: the checkpoint's own where nothing is said, none where None is said."""
    if name not in options:
        return -1
    value = dict(options)[name]
    return -2 if value is None else integer(name, value, 0, vocab_size - 1)


def _one_of(name: str, value: Any, meanings: dict[Any, int]) -> int:
    try:
        return meanings[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name}={value!r}; one of {', '.join(map(repr, meanings))} is meant") from None


def _warn_unused(options: GenerateOptions, do_sample: bool) -> None:
    named = [name for name, neutral in SAMPLING.items() if name in options and options.get(name) not in neutral]
    if named and not do_sample:
        warnings.warn(f"{', '.join(named)} acts only with do_sample=True", UserWarning, stacklevel=6)


def _cuts(options: GenerateOptions, vocab_size: int) -> dict[str, Any]:
    """What sampling leaves out; None turns a cut off, as in transformers."""
    get = options.get
    top_k, reset = get("top_k", 50), get("top_p_reset_id")
    top_p = number("top_p", 1.0 if get("top_p") is None else get("top_p"), 0, 1, above=True)
    return {
        "top_k": 0 if top_k is None else integer("top_k", top_k, 0),
        "top_p": top_p,
        "min_p": number("min_p", get("min_p") or 0, 0, 1),
        "typical_p": number("typical_p", 1.0 if get("typical_p") is None else get("typical_p"), 0, 1, above=True),
        "top_p_decay": number("top_p_decay", get("top_p_decay", 1.0), 0, 1, above=True),
        "top_p_min": number("top_p_min", get("top_p_min", 0.0), 0, top_p),
        "top_p_reset_id": -1 if reset is None else integer("top_p_reset_id", reset, 0, vocab_size - 1),
    }


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
