"""What every model has: its weights, configuration, tokenizer and session. :class:`pyft.Model` adds what is done with
them; the modules that do it know this part alone."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from pyft._checkpoint import Checkpoint
from pyft._model import ModelHandle
from pyft._session import Request, Session
from pyft.arrays import host_array
from pyft.errors import Error
from pyft.tokenization import load_text_side


class Config(Mapping[str, Any]):
    """A model's configuration: ``config["hidden_size"]`` and ``config.hidden_size`` are the same.

    Every model has architecture, num_layers, hidden_size, num_heads, num_kv_heads, head_dim, vocab_size and
    max_positions; families add their own. Iterate for all of them.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no configuration {name!r}; there are {', '.join(self._values)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        return f"pyft.Config({self._values!r})"


class LoadedModel:
    """A model as it was loaded. Any number of threads may use it at once."""

    def __init__(self, handle: ModelHandle, source: Path, session_settings: tuple[int, int, int, bool, int]) -> None:
        self._open: ModelHandle | None = handle
        self.source = source
        self.config = Config(handle.config())
        text = load_text_side(source, handle.checkpoint())
        self.tokenizer: Tokenizer | None = text.tokenizer
        self._why_no_tokenizer = text.why_none
        self.special_tokens = text.special_tokens
        self.chat_templates = text.chat_templates
        self._session_settings = session_settings
        self._session: Session | None = None
        self._running: set[Request] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        if self._open is None:
            return f"pyft.Model({str(self.source)!r}, closed)"
        return f"pyft.Model({str(self.source)!r}, {self.config.architecture}, device={self.device}, dtype={self.dtype})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what runs and gives the memory back once the last call has returned. Tensors made stay valid."""
        self.cancel()
        with self._lock:
            self._open = self._session = None

    def cancel(self) -> None:
        """Ends everything that generates: the calls return what they have, with finish_reason "cancelled"."""
        for request in list(self._running):
            request.cancel()

    @property
    def _handle(self) -> ModelHandle:
        if self._open is None:
            raise Error("the model is closed")
        return self._open

    @property
    def device(self) -> str:
        """Where it computes: "cpu", ..."""
        return self._handle.placement()[0]

    @property
    def dtype(self) -> str:
        """What the weights are computed in."""
        return self._handle.placement()[1]

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take."""
        return self._handle.placement()[2]

    @property
    def generates(self) -> bool:
        """Whether it is a language model, which generate() continues prompts with; an encoder is not."""
        return self.config.get("head") == "causal_lm"

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint behind the model."""
        return self._handle.checkpoint()

    def session(self) -> Session:
        """The session that generate, stream and chat share; created by the first of them."""
        handle = self._handle
        with self._lock:
            if self._session is None:
                self._session = Session(handle, *self._session_settings)
            return self._session

    # Text.

    def need_tokenizer(self) -> Tokenizer:
        """The tokenizer; a ValueError that says why when there is none."""
        if self.tokenizer is None:
            raise ValueError(f"no tokenizer ({self._why_no_tokenizer}): give token ids in place of text")
        return self.tokenizer

    def encode(self, text: str, add_special_tokens: bool = True) -> npt.NDArray[np.int32]:
        """Token ids of a text, with the BOS or [CLS] and [SEP] that the checkpoint asks for."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, not {type(text).__name__}")
        ids = self.need_tokenizer().encode(text, add_special_tokens=add_special_tokens).ids
        if not ids:
            raise ValueError("the text has no tokens; give at least one")
        return np.array(ids, dtype=np.int32)

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text alone, without special tokens around it."""
        return list(map(int, self.encode(text, add_special_tokens=False)))

    def decode(self, token_ids: Any, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        tokenizer = self.need_tokenizer()
        ids = host_array(token_ids, "token_ids").tolist()
        return str(tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
