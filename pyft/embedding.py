"""Sentence embeddings: text to vectors as sentence-transformers makes them."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from pyft.forward import embed_rows
from pyft.loaded_model import LoadedModel

# Tokens of one pass: enough to keep the matrix products large, few enough for the activations to stay in cache.
_TOKENS_PER_PASS = 4096


class Embedder:
    """A model's texts-to-vectors: its tokenizer with truncation on, and its sentence-transformers settings.

    A text is cut to ``max_seq_length`` of sentence_bert_config.json, else to the model's positions, special tokens
    included, as sentence-transformers cuts it. It does not keep the model, which keeps it: a cycle would outlive `del`.
    """

    def __init__(self, model: LoadedModel) -> None:
        tokenizer = model.need_tokenizer()
        settings = _sentence_settings(model.source)
        self.max_length = min(
            int(settings.get("max_seq_length") or model.config.max_positions), model.config.max_positions
        )
        self._lower = bool(settings.get("do_lower_case", False))
        # A tokenizer of our own: truncation on m.tokenizer would change generation and what the user sees.
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.enable_truncation(self.max_length)
        self._lock = threading.Lock()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        cleaned = [text.strip().lower() if self._lower else text.strip() for text in texts]
        with self._lock:
            return [encoding.ids for encoding in self._tokenizer.encode_batch(cleaned)]

    def __call__(
        self,
        model: LoadedModel,
        texts: Sequence[str],
        pooling: str,
        normalize: bool,
        progress: Callable[[int], Any] | None,
    ) -> npt.NDArray[np.float32]:
        rows = self.token_ids(texts)
        for index, row in enumerate(rows):
            if not row:
                raise ValueError(f"text {index} has no tokens; an embedding needs at least one")
        vectors: npt.NDArray[np.float32] | None = None
        # Rows of like length side by side, longest first: every pass has about as much to do.
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        for batch in _batches(order, rows):
            found = embed_rows(model, [rows[index] for index in batch], pooling, normalize).numpy()
            if vectors is None:
                vectors = np.empty((len(rows), found.shape[1]), dtype=np.float32)
            vectors[batch] = found
            if progress is not None:
                progress(len(batch))
        return vectors if vectors is not None else np.empty((0, model.config.hidden_size), dtype=np.float32)


def _batches(order: Sequence[int], rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for index in order:
        if batch and tokens + len(rows[index]) > _TOKENS_PER_PASS:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += len(rows[index])
    if batch:
        yield batch


def _sentence_settings(source: Path) -> dict[str, Any]:
    path = source / "sentence_bert_config.json"
    if not path.is_file():
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")))
