"""Generation as Python sees it: prompts in, Generation objects or text pieces out."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyft import soft_prompts
from pyft._session import Request, Session
from pyft.arrays import host_array
from pyft.detokenize import Detokenizer, StopStrings, decode
from pyft.loaded_model import LoadedModel
from pyft.options import GenerateOptions, Settings, resolve

Ids = npt.NDArray[np.int32]


@dataclass(slots=True)
class Generation:
    """What one prompt led to."""

    text: str | None
    """The new text, without special tokens; None for a checkpoint without a tokenizer."""
    token_ids: Ids
    """The new tokens, without the prompt; a stop token is the last of them."""
    finish_reason: str
    """"stop" (a stop token or string), "length" (max_new_tokens, or the model's last position), "cancelled"."""
    score: float | None = None
    """Sum of the log-probabilities over length ** length_penalty: of beams, and where logprobs were asked for."""
    logprobs: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """Each token's natural-log probability: before penalties and temperature under ``logprobs=True`` or ``"raw"``, in
    the distribution it was chosen from under ``"processed"``."""
    prompt_logprobs: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """Under ``prompt_logprobs=True``, each prompt token's natural-log probability given those before it; the first,
    which follows nothing, is NaN."""

    def __str__(self) -> str:
        return self.text if self.text is not None else str(self.token_ids.tolist())


def prompt_rows(model: LoadedModel, prompts: Any, attention_mask: Any = None) -> tuple[list[Ids], bool]:
    """Prompts as rows of ids, and whether there was but one prompt, not a list of them."""
    if isinstance(prompts, str):
        return [model.encode(prompts)], True
    if isinstance(prompts, bytes | dict | set) or prompts is None:
        raise TypeError(f"a prompt is text or token ids, not {type(prompts).__name__}")
    if isinstance(prompts, list | tuple):
        if attention_mask is not None:
            raise ValueError("attention_mask goes with a [batch, seq] array of prompts; a list needs no padding")
        if not prompts:
            return [], False
        if all(isinstance(item, int | np.integer) for item in prompts):
            return [row_of_ids(model, prompts)], True
        return [model.encode(item) if isinstance(item, str) else row_of_ids(model, item) for item in prompts], False
    array = host_array(prompts, "prompts")
    if array.ndim == 1:
        if attention_mask is not None:
            raise ValueError("attention_mask goes with a [batch, seq] array of prompts")
        return [row_of_ids(model, array)], True
    if array.ndim != 2:
        raise ValueError(f"prompts has {array.ndim} dimensions; [seq] or [batch, seq] is meant")
    if attention_mask is None:
        return [row_of_ids(model, row) for row in array], False
    mask = host_array(attention_mask, "attention_mask")
    if mask.shape != array.shape:
        raise ValueError(f"attention_mask is {list(mask.shape)}, prompts {list(array.shape)}; they must agree")
    return [row_of_ids(model, row[keep != 0]) for row, keep in zip(array, mask, strict=True)], False


def row_of_ids(model: LoadedModel, ids: Any) -> Ids:
    """One prompt's ids as int32, all of them in the vocabulary."""
    array = host_array(ids, "a prompt")
    if array.size == 0:
        raise ValueError("a prompt has no tokens; give at least one")
    if array.dtype.kind not in "iu":
        raise TypeError(f"token ids must be integers, not {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"a prompt's token ids have {array.ndim} dimensions; one is meant")
    low, high = int(array.min()), int(array.max())
    vocab_size = model.config.get("encoder_vocab_size", model.config.vocab_size)  # where an encoder reads prompts
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(f"token id {wrong} is outside the vocabulary of {vocab_size}")
    return array.astype(np.int32)


def decoder_rows(value: Any, count: int) -> list[npt.NDArray[np.int32] | None]:
    """decoder_input_ids for each of the prompts: one row of ids for all of them, or as many rows."""
    if value is None:
        return [None] * count
    nested = not hasattr(value, "ndim") and len(value) > 0 and all(hasattr(row, "__len__") for row in value)
    rows = [
        host_array(row, "decoder_input_ids") for row in (value if nested or getattr(value, "ndim", 1) == 2 else [value])
    ]
    for row in rows:
        if row.ndim != 1 or not row.size or row.dtype.kind not in "iu":
            raise ValueError("decoder_input_ids must be a list of token ids, or such a list for each prompt")
    if len(rows) == 1:
        rows *= count
    if len(rows) != count:
        raise ValueError(f"decoder_input_ids has {len(rows)} rows for {count} prompts")
    return [row.astype(np.int32) for row in rows]


def _native(
    model: LoadedModel, settings: Settings, decoder_ids: Ids | None, soft: soft_prompts.Embedded | None
) -> dict[str, Any]:
    """What C takes of one prompt's settings."""
    native = settings.native | {
        "decoder_input_ids": decoder_ids,
        "past_key_values": soft_prompts.prefix(model, settings.past_key_values),
    }
    if soft is not None:
        native |= {"embedding_positions": soft.positions, "embeddings": soft.embeddings}
    return native


class _Batch:
    """Requests submitted together, which end together when one of them raises."""

    def __init__(self, model: LoadedModel, session: Session) -> None:
        self.model = model
        self.session = session
        self.requests: list[Request] = []
        self.raised: list[BaseException] = []

    def submit(self, ids: Ids, settings: Settings, native: dict[str, Any]) -> Request:
        tokenizer = self.model.tokenizer
        should_stop, window = None, 0
        if settings.stop_strings and tokenizer is not None:
            stop_strings = StopStrings(tokenizer, settings.stop_strings)
            should_stop, window = _guarded(stop_strings, self.raised), stop_strings.window
        constrain, process = (
            _guarded(function, self.raised) if function is not None else None
            for function in (settings.constraint(len(self.requests)), settings.logits_processor)
        )
        request = self.session.submit(ids, native, should_stop, window, process, constrain)
        self.requests.append(request)
        self.model._running.add(request)
        return request

    def wait(self) -> None:
        pending = list(reversed(self.requests))

        def done() -> bool:
            while pending and pending[-1].finish_reason() is not None:
                pending.pop()
            return not pending or bool(self.raised)

        self.session.wait(done)

    def wait_for_more(self, request: Request, seen: int) -> None:
        """Until the request has more than `seen` tokens, or ends."""
        self.session.wait(lambda: request.finish_reason() is not None or request.count() > seen or bool(self.raised))

    def close(self) -> None:
        """Forgets the requests; what still runs is cancelled."""
        running = [request for request in self.requests if request.finish_reason() is None]
        self.model._running.difference_update(self.requests)
        self.requests.clear()
        for request in running:
            request.cancel()
        if running:
            self.session.sweep()


def _guarded(function: Callable[..., Any], raised: list[BaseException]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:
            raised.append(error)
            raise

    return call


def finished(model: LoadedModel, request: Request) -> list[Generation]:
    """The request's sequences."""
    made = []
    prompt_logprobs = request.prompt_logprobs()
    for tokens, logprobs, score, reason in request.results():
        text = decode(model.tokenizer, tokens.tolist()) if model.tokenizer is not None else None
        made.append(Generation(text, tokens, reason, score, logprobs, prompt_logprobs))
    return made


def _prompts(
    model: LoadedModel, prompts: Any, attention_mask: Any, inputs_embeds: Any
) -> tuple[list[Ids], Sequence[soft_prompts.Embedded | None], bool]:
    """Rows of ids, the embeddings among them, and whether there was but one prompt. Embeddings alone stand for ids."""
    if inputs_embeds is None:
        rows, single = prompt_rows(model, prompts, attention_mask)
        return rows, [None] * len(rows), single
    if prompts is None:
        soft, single = soft_prompts.whole_prompts(model, inputs_embeds)
        return [np.zeros(len(row.positions), dtype=np.int32) for row in soft], soft, single
    rows, single = prompt_rows(model, prompts, attention_mask)
    return rows, soft_prompts.mixed_prompts(model, inputs_embeds, [len(row) for row in rows]), single


def generate(
    model: LoadedModel, prompts: Any, attention_mask: Any, options: GenerateOptions
) -> "Generation | list[Generation] | list[list[Generation]]":
    settings = resolve(options, model.encode_plain if model.tokenizer is not None else None)
    rows, soft, single = _prompts(model, prompts, attention_mask, settings.inputs_embeds)
    if not rows:
        return []
    batch = _Batch(model, model.session())
    try:
        for row, embedded, start in zip(rows, soft, decoder_rows(settings.decoder_input_ids, len(rows)), strict=True):
            batch.submit(row, settings, _native(model, settings, start, embedded))
        batch.wait()
        if batch.raised:
            raise batch.raised[0]
        made = [finished(model, request) for request in batch.requests]
    finally:
        batch.close()
    if settings.num_return_sequences > 1:
        return made[0] if single else made
    first = [sequences[0] for sequences in made]
    return first[0] if single else first


class TextStream(Iterator[str]):
    """Text pieces as they come. They join to ``.generation.text``, and none ends inside a character. Leaving the
    loop early, or :meth:`close`, cancels the request."""

    def __init__(self, model: LoadedModel, prompt: Any, options: GenerateOptions) -> None:
        tokenizer = model.need_tokenizer()
        self._settings = resolve(options, model.encode_plain)
        if self._settings.num_return_sequences != 1:
            raise ValueError("stream() yields one sequence: num_return_sequences must be 1")
        rows, soft, single = _prompts(model, prompt, None, self._settings.inputs_embeds)
        if not single:
            raise TypeError("stream() takes one prompt, not a list of them")
        self.generation: Generation | None = None
        """The whole, once the stream has ended."""
        self._model = model
        self._ids = rows[0]
        self._native = _native(model, self._settings, decoder_rows(self._settings.decoder_input_ids, 1)[0], soft[0])
        model.session().check(self._ids, self._native)
        self._pieces = self._run(Detokenizer(tokenizer))

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        self._pieces.close()

    def _run(self, detokenizer: Detokenizer) -> Generator[str, None, None]:
        batch = _Batch(self._model, self._model.session())
        try:
            request = batch.submit(self._ids, self._settings, self._native)
            seen = 0
            while not batch.raised:
                batch.wait_for_more(request, seen)
                ended = request.finish_reason() is not None  # asked first: tokens come before the end
                tokens: Sequence[int] = request.tokens(seen).tolist()
                piece = detokenizer.add(tokens)
                seen += len(tokens)
                if piece:
                    yield piece
                if ended:
                    break
            if batch.raised:
                raise batch.raised[0]
            self.generation = finished(self._model, request)[0]
            rest = detokenizer.finish()
            if rest:
                yield rest
        finally:
            batch.close()
