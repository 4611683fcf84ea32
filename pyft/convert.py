"""pyft.convert: any checkpoint as one folder of safetensors files with a manifest."""

import json
import os
from collections.abc import Callable
from typing import Any

from pyft import _convert
from pyft._checkpoint import Checkpoint
from pyft.gguf_tokenizer import gguf_text
from pyft.options import integer


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    dtype: str = "auto",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Writes `source`, of any format that pyft.load reads, as a folder that pyft.load reads too.

    dtype: "float32", "bfloat16" or "float16" for every weight, or "auto": each as it is, to the bit, GGUF's blocks
    included. tensor_parallel and pipeline_parallel split the files for that many ranks and stages; a folder that was
    split can be converted again, to another split or to none. The destination must not exist, unless `overwrite` is
    true and it is such a folder; it appears when it is complete. progress(done_bytes, total_bytes) is called as
    weights are written; a true return cancels with CancelledError and leaves nothing behind.
    """
    for name, path in (("source", source), ("destination", destination)):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"{name} must be a path, not {type(path).__name__}")
    if not isinstance(dtype, str):
        raise TypeError(f"dtype must be a name such as 'float32', not {dtype!r}")
    _convert.convert(
        source,
        destination,
        dtype,
        integer("tensor_parallel", tensor_parallel, 1),
        integer("pipeline_parallel", pipeline_parallel, 1),
        overwrite,
        _text_files(source),
        progress,
    )


def _text_files(source: str | os.PathLike[str]) -> dict[bytes, bytes]:
    """The tokenizer of a GGUF file, which keeps it in its metadata, as a folder's files. Folders have theirs."""
    checkpoint = Checkpoint(source)
    if checkpoint.format != "gguf":
        return {}
    tokenizer, _, special_tokens, templates = gguf_text(checkpoint)
    settings: dict[str, Any] = dict(special_tokens)
    if templates:
        settings["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    files = {b"tokenizer_config.json": json.dumps(settings, ensure_ascii=False).encode()}
    if tokenizer is not None:
        files[b"tokenizer.json"] = tokenizer.to_str().encode()
    return files
