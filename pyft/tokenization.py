"""A checkpoint's own tokenizer, as transformers would run it, and its special tokens and chat template.

Folders: tokenizer.json, else vocab.txt (BERT's WordPiece), else vocab.json and merges.txt (byte-level BPE). GGUF
files: see gguf_tokenizer. A checkpoint may have none: the model then takes token ids only.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from pyft._checkpoint import Checkpoint
from pyft.errors import CheckpointError
from pyft.gguf_tokenizer import gguf_text
from pyft.tokenizer_parts import wordpiece_tokenizer, wrap_ends

DEFAULT_TEMPLATE = "default"


@dataclass(slots=True)
class TextSide:
    """What a checkpoint says about text."""

    tokenizer: Tokenizer | None = None
    why_none: str = ""
    """Why there is no tokenizer."""
    special_tokens: dict[str, str] = field(default_factory=dict)
    """"bos_token", "eos_token", ... by name, as chat templates see them."""
    chat_templates: dict[str, str] = field(default_factory=dict)
    """By name; a checkpoint's only one is "default"."""


def load_text_side(source: Path, checkpoint: Checkpoint) -> TextSide:
    if checkpoint.format == "gguf":
        tokenizer, why_none, special_tokens, templates = gguf_text(checkpoint)
        return TextSide(tokenizer, why_none, special_tokens, templates)
    settings = read_json(source / "tokenizer_config.json")
    special = {**_special_tokens(read_json(source / "special_tokens_map.json")), **_special_tokens(settings)}
    tokenizer = _folder_tokenizer(source, settings, special)
    why_none = "" if tokenizer else f"{source} has no tokenizer.json, vocab.txt, or vocab.json with merges.txt"
    return TextSide(tokenizer, why_none, special, _folder_templates(source, settings))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} when there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is meant, not {type(value).__name__}")
    return value


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """A special token is written as text or as {"content": text, ...}."""
    found = {}
    for name, value in settings.items():
        if not name.endswith("_token"):
            continue
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str):
            found[name] = content
    return found


def _folder_tokenizer(source: Path, settings: dict[str, Any], special: dict[str, str]) -> Tokenizer | None:
    path = source / "tokenizer.json"
    try:
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        elif (path := source / "vocab.txt").is_file():
            tokenizer = _wordpiece(path, settings, special)
        elif (path := source / "vocab.json").is_file() and (source / "merges.txt").is_file():
            tokenizer = _byte_level(path, source / "merges.txt", settings, special)
        else:
            return None
    except CheckpointError:
        raise
    except Exception as error:  # what `tokenizers` raises is a bare Exception
        raise CheckpointError(f"{path}: {error}") from None
    # A file saved with truncation or padding on would cut prompts silently.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _add_missing(tokenizer, settings)
    if path.name == "vocab.json" and ("add_bos_token" in settings or "add_eos_token" in settings):
        _rewrite_ends(tokenizer, settings, special)
    return tokenizer


def _add_missing(tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Tokens that only tokenizer_config.json names, with the ids it gives them."""
    added = settings.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return
    for key, token in sorted(added.items(), key=lambda item: int(item[0])):
        content = token.get("content", "")
        if not content or tokenizer.token_to_id(content) is not None:
            continue
        flags = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
        made = AddedToken(content, special=bool(token.get("special", False)), **flags)
        (tokenizer.add_special_tokens if made.special else tokenizer.add_tokens)([made])
        if tokenizer.token_to_id(content) != int(key):
            raise CheckpointError(
                f"tokenizer_config.json gives {content!r} id {key}, the tokenizer {tokenizer.token_to_id(content)}"
            )


def _rewrite_ends(tokenizer: Tokenizer, settings: dict[str, Any], special: dict[str, str]) -> None:
    """add_bos_token and add_eos_token. A tokenizer.json has its own post-processor, and outranks them."""
    bos = special.get("bos_token") if settings.get("add_bos_token") else None
    eos = special.get("eos_token") if settings.get("add_eos_token") else None
    wrap_ends(tokenizer, bos, eos)


def _wordpiece(path: Path, settings: dict[str, Any], special: dict[str, str]) -> Tokenizer:
    """BERT's tokenizer from its vocabulary, one token a line (arXiv:1810.04805)."""
    lines = path.read_text(encoding="utf-8").split("\n")
    vocab = {token.rstrip("\r"): index for index, token in enumerate(lines) if token.rstrip("\r")}
    return wordpiece_tokenizer(
        vocab,
        special,
        lowercase=bool(settings.get("do_lower_case", True)),
        strip_accents=settings.get("strip_accents"),
        chinese=bool(settings.get("tokenize_chinese_chars", True)),
    )


def _byte_level(vocab: Path, merges: Path, settings: dict[str, Any], special: dict[str, str]) -> Tokenizer:
    """GPT-2's byte-level BPE from its two files; RoBERTa puts its <s> and </s> around it."""
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    prefix_space = bool(settings.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    known = [token for token in special.values() if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(known)])
    cls, sep = special.get("cls_token"), special.get("sep_token")
    if cls and sep:
        cls_id, sep_id = tokenizer.token_to_id(cls), tokenizer.token_to_id(sep)
        if cls_id is None or sep_id is None:
            raise CheckpointError(f"{vocab} lacks {cls!r} or {sep!r}")
        tokenizer.post_processor = processors.RobertaProcessing((sep, sep_id), (cls, cls_id), True, prefix_space)
    return tokenizer


def _folder_templates(source: Path, settings: dict[str, Any]) -> dict[str, str]:
    """chat_template.jinja outranks tokenizer_config.json, as in transformers."""
    found: dict[str, str] = {}
    written = settings.get("chat_template")
    if isinstance(written, str):
        found[DEFAULT_TEMPLATE] = written
    elif isinstance(written, list):
        for entry in written:
            if (
                isinstance(entry, dict)
                and isinstance(entry.get("name"), str)
                and isinstance(entry.get("template"), str)
            ):
                found[entry["name"]] = entry["template"]
    path = source / "chat_template.jinja"
    if path.is_file():
        found[DEFAULT_TEMPLATE] = path.read_text(encoding="utf-8")
    more = source / "additional_chat_templates"
    if more.is_dir():
        found.update({file.stem: file.read_text(encoding="utf-8") for file in sorted(more.glob("*.jinja"))})
    return found
