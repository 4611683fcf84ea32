"""Soft prompts: embeddings in the place of a prompt's tokens, and keys and values of a prefix that has no tokens."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyft.arrays import host_array
from pyft.loaded_model import LoadedModel
from pyft.options import integer

# What prompt tuning calls its rows in the files that PEFT saves.
_PEFT_NAME = "prompt_embeddings"
_SAFETENSORS_TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


@dataclass(slots=True)
class Embedded:
    """Embeddings [n, width] for n rising positions of one prompt."""

    positions: npt.NDArray[np.int32]
    embeddings: npt.NDArray[np.float32]


def _floats(value: Any, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float32]:
    """A float array of the shape, in which None stands for any size above 0."""
    array = host_array(value, name)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must hold floats, not {array.dtype}")
    fits = array.ndim == len(shape) and all(size in (None, n) and n for n, size in zip(array.shape, shape, strict=True))
    if not fits:
        meant = ", ".join("n" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} is {list(array.shape)}; [{meant}] is meant")
    return np.ascontiguousarray(array, dtype=np.float32)


def _width(model: LoadedModel) -> int:
    return int(model.config.get("embedding_size") or model.config.hidden_size)


def whole_prompts(model: LoadedModel, inputs_embeds: Any) -> tuple[list[Embedded], bool]:
    """Prompts of embeddings alone: one as [seq, width], several as [batch, seq, width] or a list; and whether one."""
    single = not isinstance(inputs_embeds, list | tuple) and host_array(inputs_embeds, "inputs_embeds").ndim == 2
    rows = [
        _floats(row, "inputs_embeds", (None, _width(model))) for row in ([inputs_embeds] if single else inputs_embeds)
    ]
    return [Embedded(np.arange(len(row), dtype=np.int32), row) for row in rows], single


def mixed_prompts(model: LoadedModel, inputs_embeds: Any, lengths: list[int]) -> list[Embedded]:
    """What {position: embeddings [n, width]}, one mapping or one a prompt, puts in the place of prompts' tokens."""
    given = [inputs_embeds] * len(lengths) if isinstance(inputs_embeds, Mapping) else list(inputs_embeds)
    if len(given) != len(lengths) or not all(isinstance(spans, Mapping) for spans in given):
        raise ValueError("inputs_embeds beside prompts is {position: embeddings}, or a list of as many as prompts")
    found = []
    for spans, length in zip(given, lengths, strict=True):
        positions: list[int] = []
        rows = [np.empty((0, _width(model)), dtype=np.float32)]
        for start in sorted(spans):
            rows.append(_floats(spans[start], "inputs_embeds", (None, _width(model))))
            first = integer("a position of inputs_embeds", start, positions[-1] + 1 if positions else 0)
            positions += range(first, integer("the end of inputs_embeds", first + len(rows[-1]), 1, length))
        found.append(Embedded(np.array(positions, dtype=np.int32), np.concatenate(rows)))
    return found


def prefix(model: LoadedModel, past_key_values: Any) -> npt.NDArray[np.float32] | None:
    """[num_layers, 2, num_kv_heads, prefix_length, head_dim]"""
    if past_key_values is None:
        return None
    config = model.config
    return _floats(
        past_key_values, "past_key_values", (config.num_layers, 2, config.num_kv_heads, None, config.head_dim)
    )


def read(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """The rows [n, width] of a .npy file, or of a .safetensors file that holds one tensor or one called
    prompt_embeddings, as PEFT saves prompt tuning."""
    path = Path(path)
    if path.suffix not in (".npy", ".safetensors"):
        raise ValueError(f"{path}: a soft prompt is read from .npy and .safetensors files")
    try:
        rows = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _safetensors_rows(path.read_bytes())
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"{path}: no soft prompt can be read: {error}") from None
    return _floats(rows, str(path), (None, None))


def _safetensors_rows(data: bytes) -> npt.NDArray[Any]:
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    if len(header) != 1 and _PEFT_NAME not in header:
        raise ValueError(f"it holds {len(header)} tensors, none of which is called {_PEFT_NAME}")
    entry = header.get(_PEFT_NAME) or next(iter(header.values()))
    if entry["dtype"] not in _SAFETENSORS_TYPES:
        raise ValueError(f"the rows are of type {entry['dtype']}; floats are meant")
    first, last = entry["data_offsets"]
    rows = np.frombuffer(data[begin:], dtype=np.uint8)[first:last].view(_SAFETENSORS_TYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":  # float32's upper half
        rows = (rows.astype("<u4") << 16).view("<f4")
    return rows.reshape(entry["shape"])


def before(
    rows: npt.NDArray[np.float32], prompts: list[npt.NDArray[np.int32]]
) -> tuple[list[npt.NDArray[np.int32]], dict[int, npt.NDArray[np.float32]]]:
    """Prompts and inputs_embeds for prompts that all begin with the rows, as prompt tuning has it."""
    room = np.zeros(len(rows), dtype=np.int32)  # ids that nothing looks at
    return [np.concatenate([room, prompt]) for prompt in prompts], {0: rows}
