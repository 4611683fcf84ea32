"""Generation settings: Hugging Face transformers' names, meanings and defaults.

:class:`GenerateOptions` is the table of them: keyword checking, what C gets, the command line's options and the warning
about settings that do nothing all follow from it. Types are checked here, since C has none to check; which numbers are
allowed, and which go together, the C library says, and its message is the ValueError's.

As in transformers, sampling settings act only under ``do_sample=True``, where ``top_k`` is 50 unless said otherwise.
"""

import operator
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, get_type_hints

import numpy as np
import numpy.typing as npt

LogitsProcessor = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.ArrayLike | None]
PrefixConstraint = Callable[[int, npt.NDArray[np.int32]], Sequence[int]]

_INT32 = 2**31
_ABSENT = object()


def integer(name: str, value: Any, low: int = -_INT32, high: int = _INT32 - 1) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={number} is outside {low}..{high}")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A keyword argument beside its type. The command line has it as --its-name, or as `flag`."""

    flag: str | None = None
    metavar: str | None = None
    help: str | None = None
    idle: tuple[Any, ...] | None = None
    """Of what acts only when sampling: the values under which it does nothing."""

    def argument(self) -> dict[str, Any]:
        """What argparse is told of it."""
        return {"metavar": self.metavar, "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Option):
    """One number of ft_generate_options, which has a field of the same name."""

    none: Any = _ABSENT
    """What None is to C, where None is allowed."""
    default: Any = _ABSENT
    """Where it is not FT_GENERATE_OPTIONS_INIT's."""

    def to_c(self, name: str, value: Any) -> Any:
        return self.none if value is None and self.none is not _ABSENT else self.convert(name, value)

    def convert(self, name: str, value: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Number):
    """Between `low` and `high`: what the C field can hold, without the numbers that C takes for None."""

    low: int = -_INT32
    high: int = _INT32 - 1

    def convert(self, name: str, value: Any) -> int:
        return integer(name, value, self.low, self.high)

    def argument(self) -> dict[str, Any]:
        return {"type": int, "metavar": self.metavar or "N", "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Real(Number):
    def convert(self, name: str, value: Any) -> float:
        if isinstance(value, str | bytes | bool):
            raise TypeError(f"{name} must be a number, not {value!r}")
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number, not {value!r}") from None

    def argument(self) -> dict[str, Any]:
        return {"type": float, "metavar": self.metavar or "X", "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch(Number):
    def convert(self, name: str, value: Any) -> bool:
        return bool(value)

    def argument(self) -> dict[str, Any]:
        return {"action": "store_true", "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf(Number):
    """A value with a number in C; on the command line True alone where there is no metavar."""

    meanings: Mapping[Any, int] = field(default_factory=dict)

    def convert(self, name: str, value: Any) -> int:
        try:
            return self.meanings[value]
        except (KeyError, TypeError):
            raise ValueError(f"{name}={value!r}; one of {', '.join(map(repr, self.meanings))} is meant") from None

    def argument(self) -> dict[str, Any]:
        if self.metavar is None:
            return {"action": "store_true", "help": self.help}
        words = {str(value).lower(): value for value in self.meanings}
        return {"type": lambda text: words.get(text, text), "metavar": self.metavar, "help": self.help}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Option):
    """Several of them, one at a time on the command line."""

    parse: Callable[[str], Any] = str

    def argument(self) -> dict[str, Any]:
        return {"action": "append", "type": self.parse, "metavar": self.metavar, "help": "may be repeated"}


class GenerateOptions(TypedDict, total=False):
    """The keyword arguments of generate, stream and chat."""

    max_new_tokens: Annotated[int, Whole()]
    min_new_tokens: Annotated[int, Whole()]
    do_sample: Annotated[bool, Switch(help="draw tokens; implied by the sampling settings")]
    temperature: Annotated[float, Real(metavar="T", idle=(1, 0), help="0: the most probable tokens")]
    top_k: Annotated[int | None, Whole(none=0, default=50, idle=(50, 0, None))]
    top_p: Annotated[float | None, Real(metavar="P", none=1, idle=(1, None))]
    min_p: Annotated[float | None, Real(metavar="P", none=0, idle=(0, None))]
    typical_p: Annotated[float | None, Real(metavar="P", none=1, idle=(1, None))]
    top_p_decay: Annotated[float, Real(idle=(1,), help="multiplies top-p at each new token")]
    top_p_min: Annotated[float, Real(metavar="P", idle=(0,), help="top-p decays no further")]
    top_p_reset_id: Annotated[
        int | None, Whole(metavar="ID", none=-1, low=0, idle=(None,), help="top-p begins anew after this token")
    ]
    seed: Annotated[int | None, Whole(low=0, high=2**64 - 1)]
    repetition_penalty: Annotated[float, Real()]
    presence_penalty: Annotated[float, Real()]
    frequency_penalty: Annotated[float, Real()]
    no_repeat_ngram_size: Annotated[int, Whole()]
    num_beams: Annotated[int, Whole(help="beam search of this width")]
    num_beam_groups: Annotated[int, Whole(help="diverse beam search")]
    diversity_penalty: Annotated[float, Real()]
    early_stopping: Annotated[bool | str, OneOf(metavar="false|true|never", meanings={False: 0, True: 1, "never": 2})]
    length_penalty: Annotated[float, Real()]
    num_return_sequences: Annotated[int, Whole()]
    bad_words: Annotated[Sequence[str | Sequence[int]] | None, Listed(flag="--bad-word", metavar="TEXT")]
    stop_strings: Annotated[str | Sequence[str] | None, Listed(flag="--stop-string", metavar="TEXT")]
    stop_token_ids: Annotated[int | Sequence[int] | None, Listed(flag="--stop-token-id", metavar="ID", parse=int)]
    forced_bos_token_id: Annotated[int | None, Whole(metavar="ID", none=-2, low=0, help="the first new token")]
    forced_eos_token_id: Annotated[
        int | None, Whole(metavar="ID", none=-2, low=0, help="the last token of a sequence that reaches its length")
    ]
    logprobs: Annotated[bool | str, OneOf(meanings={False: 0, True: 1, "raw": 1, "processed": 2})]
    prompt_logprobs: Annotated[bool, Switch()]
    decoder_input_ids: Any
    inputs_embeds: Any
    past_key_values: Any
    logits_processor: LogitsProcessor | None
    prefix_allowed_tokens_fn: PrefixConstraint | None


_HINTS = get_type_hints(GenerateOptions, include_extras=True)
TABLE: dict[str, Option] = {
    name: hint.__metadata__[0] for name, hint in _HINTS.items() if hasattr(hint, "__metadata__")
}
NUMBERS: dict[str, Number] = {name: option for name, option in TABLE.items() if isinstance(option, Number)}
SAMPLING: dict[str, tuple[Any, ...]] = {name: option.idle for name, option in TABLE.items() if option.idle is not None}


@dataclass(slots=True)
class Settings:
    """What the C library takes, and what is done in Python."""

    native: dict[str, Any]
    """Fields of ft_generate_options and arrays, for Session.submit."""
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


def token_ids(name: str, values: Any) -> list[int]:
    return [integer(f"a token of {name}", value) for value in values]


def resolve(options: GenerateOptions, encode: Callable[[str], list[int]] | None) -> Settings:
    """Takes the keyword arguments apart. `encode` turns text into ids without special tokens; None without a
    tokenizer."""
    unknown = sorted(set(options) - set(_HINTS))
    if unknown:
        raise TypeError(f"no generation option {unknown[0]!r}")
    get = options.get
    _warn_unused(options, bool(get("do_sample", False)))
    stop, processor, constraint = get("stop_token_ids"), get("logits_processor"), get("prefix_allowed_tokens_fn")
    if processor is not None and not callable(processor):
        raise TypeError("logits_processor must be a callable(token_ids, logits)")
    if constraint is not None and not callable(constraint):
        raise TypeError("prefix_allowed_tokens_fn must be a callable(prompt_index, token_ids)")
    numbers = _numbers(options)
    return Settings(
        native=numbers
        | {
            "stop_token_ids": stop
            if stop is None
            else token_ids("stop_token_ids", [stop] if isinstance(stop, int | np.integer) else stop),
            "bad_words": _bad_words(get("bad_words"), encode),
        },
        num_return_sequences=numbers.get("num_return_sequences", 1),
        decoder_input_ids=get("decoder_input_ids"),
        inputs_embeds=get("inputs_embeds"),
        past_key_values=get("past_key_values"),
        stop_strings=_stop_strings(get("stop_strings"), encode is not None),
        logits_processor=processor,
        prefix_allowed_tokens_fn=constraint,
    )


def _numbers(options: GenerateOptions) -> dict[str, Any]:
    """What differs from the defaults of ft_generate_options. A seed that is not given is drawn."""
    given = {name: option.default for name, option in NUMBERS.items() if option.default is not _ABSENT}
    given |= {name: value for name, value in options.items() if name in NUMBERS}
    if given.get("seed") is None:
        given["seed"] = secrets.randbits(63)
    return {name: NUMBERS[name].to_c(name, value) for name, value in given.items()}


def _warn_unused(options: GenerateOptions, do_sample: bool) -> None:
    named = [name for name, idle in SAMPLING.items() if name in options and options.get(name) not in idle]
    if named and not do_sample:
        warnings.warn(f"{', '.join(named)} acts only with do_sample=True", UserWarning, stacklevel=6)


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


def _bad_words(value: Any, encode: Callable[[str], list[int]] | None) -> list[list[int]]:
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
            spellings = [token_ids("bad_words", word)]
        words += [spelling for spelling in spellings if spelling not in words]
    return words
