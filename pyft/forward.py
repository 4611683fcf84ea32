"""The forward pass as Python sees it: padded arrays or ragged lists in, tensors out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from pyft._tensor import Tensor, from_dlpack
from pyft.arrays import float_tensor, host_array, integer_tensor, on_device
from pyft.loaded_model import LoadedModel


class Outputs:
    """What a forward pass gave. An output that the model has not, or that was not asked for, is None.

    ``last_hidden_state`` [batch, seq, hidden_size]; ``pooler_output`` [batch, hidden_size]; ``logits``
    [batch, seq, vocab_size] of language models, [batch, seq, num_labels] of token classifiers, [batch, num_labels] of
    sequence classifiers; ``encoder_last_hidden_state`` [batch, seq, hidden_size] of encoder-decoders, whose other
    outputs are the decoder's. float32, or what the model computes in where they stay on its GPU; zeros where
    attention_mask is 0.
    """

    __slots__ = ("encoder_last_hidden_state", "last_hidden_state", "logits", "pooler_output")

    def __init__(self, found: dict[str, Tensor]) -> None:
        self.last_hidden_state: Tensor | None = found.get("last_hidden_state")
        self.pooler_output: Tensor | None = found.get("pooler_output")
        self.logits: Tensor | None = found.get("logits")
        self.encoder_last_hidden_state: Tensor | None = found.get("encoder_last_hidden_state")

    def __repr__(self) -> str:
        present = [f"{name}={getattr(self, name)!r}" for name in self.__slots__ if getattr(self, name) is not None]
        return f"pyft.Outputs({', '.join(present)})"


@dataclass
class Rows:
    """Rows of token ids, or of embeddings in their place, as a caller gives them: for the model's input or, with the
    prefix "decoder_", for its decoder."""

    ids: Any
    mask: Any = None
    embeds: Any = None
    prefix: str = ""

    def given(self) -> bool:
        """Whether there are any; a mask alone is refused."""
        if self.ids is not None and self.embeds is not None:
            raise ValueError(f"{self.prefix}input_ids and {self.prefix}inputs_embeds are both given; one is meant")
        if self.ids is None and self.embeds is None and self.mask is not None:
            raise ValueError(f"{self.prefix}attention_mask is given without {self.prefix}input_ids")
        return self.ids is not None or self.embeds is not None

    def tensors(self) -> dict[str, Tensor]:
        """ids [batch, seq] or embeddings [batch, seq, width], and the mask, by their names; rows of several lengths are
        padded on the right."""
        embedded = self.ids is None
        rows, mask = self.embeds if embedded else self.ids, self.mask
        name = f"{self.prefix}inputs_embeds" if embedded else f"{self.prefix}input_ids"
        shape = "[batch, seq, width]" if embedded else "[batch, seq]"
        if isinstance(rows, list | tuple):
            if not all(hasattr(row, "__len__") and len(row) for row in rows) or not len(rows):
                raise ValueError(f"{name} must be a list of rows of at least one token each, or a {shape} array")
            lengths = [len(row) for row in rows]
            if len(set(lengths)) > 1:
                if mask is not None:
                    raise ValueError(f"{self.prefix}attention_mask goes with rows of one length; ragged rows need none")
                rows, mask = (_pad_embeddings if embedded else pad)(rows, lengths, name)
            elif embedded or any(on_device(row) for row in rows):
                rows = np.stack([host_array(row, name) for row in rows])
            else:
                rows = np.asarray(rows)
        tensor = float_tensor(rows, name) if embedded else integer_tensor(rows, name)
        if tensor.ndim != (3 if embedded else 2):
            raise ValueError(f"{name} is {list(tensor.shape)}; {shape} is meant, or a list of rows")
        found = {name: tensor}
        if mask is not None:
            mask_name = f"{self.prefix}attention_mask"
            found[mask_name] = _companion(mask, mask_name, name, tensor)
        return found


def forward(
    model: LoadedModel,
    rows: Rows,
    token_type_ids: Any,
    decoder_rows: Rows,
    outputs: str | Sequence[str] | None,
    output_device: str | None,
) -> Outputs:
    if not rows.given():
        raise ValueError("input_ids is not given, and no inputs_embeds either")
    tensors = rows.tensors()
    if token_type_ids is not None:
        name, ids = next(iter(tensors.items()))
        ragged = rows.ids if rows.embeds is None else rows.embeds
        if isinstance(ragged, list | tuple):
            lengths = [len(row) for row in ragged]
            if [len(row) for row in token_type_ids] != lengths:
                raise ValueError(f"token_type_ids must have the rows of {name}")
            token_type_ids, _ = pad(token_type_ids, lengths, "token_type_ids")
        tensors["token_type_ids"] = _companion(token_type_ids, "token_type_ids", name, ids)
    if decoder_rows.given():
        tensors |= decoder_rows.tensors()
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    if output_device is None:
        given_there = any(given.device == model.device for given in tensors.values())
        output_device = model.device if given_there else "cpu"
    return Outputs(model._handle.forward(tensors, names, "auto", False, output_device))


def _companion(value: Any, name: str, tokens_name: str, tokens: Tensor) -> Tensor:
    tensor = integer_tensor(value, name)
    if tensor.shape != tokens.shape[:2]:
        raise ValueError(f"{name} is {list(tensor.shape)}, {tokens_name} {list(tokens.shape)}; they must agree")
    return tensor


def pad(rows: Sequence[Any], lengths: list[int], name: str) -> tuple[Any, Any]:
    """[batch, longest] with zeros on the right, and the mask that tells them from tokens."""
    padded = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    for index, row in enumerate(rows):
        values = host_array(row, name)
        if values.size and (values.dtype.kind not in "iu" or values.ndim != 1):
            raise TypeError(f"{name} must hold rows of integers; row {index} is {values.dtype}")
        padded[index, : lengths[index]] = values
    return padded, _mask(lengths)


def _pad_embeddings(rows: Sequence[Any], lengths: list[int], name: str) -> tuple[Any, Any]:
    """[batch, longest, width] float32 likewise."""
    arrays = [host_array(row, name) for row in rows]
    widths = {array.shape[-1] for array in arrays}
    if len(widths) > 1 or any(array.ndim != 2 or array.dtype.kind != "f" for array in arrays):
        raise ValueError(f"{name} must hold rows [seq, width] of floats, all of one width")
    padded = np.zeros((len(rows), max(lengths), widths.pop()), dtype=np.float32)
    for values, array in zip(padded, arrays, strict=True):
        values[: len(array)] = array
    return padded, _mask(lengths)


def _mask(lengths: list[int]) -> Any:
    return (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.uint8)


def embed_rows(model: LoadedModel, rows: Sequence[Any], pooling: str, normalize: bool) -> Tensor:
    """[rows, embedding_size] of packed rows: nothing is padded."""
    offsets = np.fromiter(accumulate(map(len, rows), initial=0), dtype=np.int64, count=len(rows) + 1)
    ids = np.concatenate(rows, dtype=np.int32, casting="same_kind")
    tensors = {"input_ids": from_dlpack(ids), "row_offsets": from_dlpack(offsets)}
    found = model._handle.forward(tensors, ("embedding",), pooling, normalize)
    return found["embedding"]
