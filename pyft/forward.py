"""The forward pass as Python sees it: padded arrays or ragged lists in, tensors out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyft._tensor import Tensor, from_dlpack
from pyft.arrays import integer_tensor

if TYPE_CHECKING:
    from pyft.model import Model


class Outputs:
    """What a forward pass gave. An output that the model has not, or that was not asked for, is None.

    ``last_hidden_state`` [batch, seq, hidden_size]; ``pooler_output`` [batch, hidden_size]; ``logits``
    [batch, seq, vocab_size] of language models, [batch, seq, num_labels] of token classifiers, [batch, num_labels] of
    sequence classifiers; ``encoder_last_hidden_state`` [batch, seq, hidden_size] of encoder-decoders, whose other
    outputs are the decoder's. float32; zeros where attention_mask is 0.
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
    """Token rows as a caller gives them, for the model's input or, with the prefix "decoder_", for its decoder."""

    ids: Any
    mask: Any = None
    prefix: str = ""

    def tensors(self) -> tuple[Tensor, Tensor | None]:
        """ids [batch, seq] and the mask; rows of several lengths are padded on the right."""
        ids, mask, name = self.ids, self.mask, f"{self.prefix}input_ids"
        if isinstance(ids, list | tuple):
            if not all(hasattr(row, "__len__") and len(row) for row in ids) or not len(ids):
                raise ValueError(f"{name} must be a list of rows of at least one token each, or a [batch, seq] array")
            lengths = [len(row) for row in ids]
            if len(set(lengths)) > 1:
                if mask is not None:
                    raise ValueError(f"{self.prefix}attention_mask goes with rows of one length; ragged rows need none")
                ids, mask = pad(ids, lengths, name)
            else:
                ids = np.asarray(ids)
        tensor = integer_tensor(ids, name)
        if tensor.ndim != 2:
            raise ValueError(f"{name} is {list(tensor.shape)}; [batch, seq] is meant, or a list of rows of ids")
        return tensor, _companion(mask, f"{self.prefix}attention_mask", name, tensor)


def forward(
    model: "Model", rows: Rows, token_type_ids: Any, decoder_rows: Rows, outputs: str | Sequence[str] | None
) -> Outputs:
    ids, mask = rows.tensors()
    if token_type_ids is not None and isinstance(rows.ids, list | tuple):
        lengths = [len(row) for row in rows.ids]
        if [len(row) for row in token_type_ids] != lengths:
            raise ValueError("token_type_ids must have the rows of input_ids")
        token_type_ids, _ = pad(token_type_ids, lengths, "token_type_ids")
    types = _companion(token_type_ids, "token_type_ids", "input_ids", ids)
    decoder_ids = decoder_mask = None
    if decoder_rows.ids is not None:
        decoder_ids, decoder_mask = decoder_rows.tensors()
    elif decoder_rows.mask is not None:
        raise ValueError("decoder_attention_mask is given without decoder_input_ids")
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    return Outputs(model._handle.forward(ids, mask, types, None, decoder_ids, decoder_mask, names, "auto", False))


def _companion(value: Any, name: str, ids_name: str, ids: Tensor) -> Tensor | None:
    if value is None:
        return None
    tensor = integer_tensor(value, name)
    if tensor.shape != ids.shape:
        raise ValueError(f"{name} is {list(tensor.shape)}, {ids_name} {list(ids.shape)}; they must agree")
    return tensor


def pad(rows: Sequence[Any], lengths: list[int], name: str) -> tuple[Any, Any]:
    """[batch, longest] with zeros on the right, and the mask that tells them from tokens."""
    padded = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    mask = np.zeros(padded.shape, dtype=np.uint8)
    for index, row in enumerate(rows):
        values = np.asarray(row)
        if values.size and (values.dtype.kind not in "iu" or values.ndim != 1):
            raise TypeError(f"{name} must hold rows of integers; row {index} is {values.dtype}")
        padded[index, : lengths[index]] = values
        mask[index, : lengths[index]] = 1
    return padded, mask


def embed_rows(model: "Model", rows: Sequence[Any], pooling: str, normalize: bool) -> Tensor:
    """[rows, embedding_size] of packed rows: nothing is padded."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    found = model._handle.forward(
        from_dlpack(ids), None, None, from_dlpack(offsets), None, None, ("embedding",), pooling, normalize
    )
    return found["embedding"]
