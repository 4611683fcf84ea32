"""Tokenizers from GGUF metadata: the vocabulary, merges, scores and flags under "tokenizer.ggml.*".

Three kinds cover the decoders and encoders that libft runs: "gpt2" (byte-level BPE, split by one of a few published
patterns), "llama" (SentencePiece BPE, whose merges are implied by the scores) and "bert" (WordPiece).
Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from pyft._checkpoint import Checkpoint
from pyft.errors import CheckpointError
from pyft.tokenizer_parts import wordpiece_tokenizer, wrap_ends

# Values of tokenizer.ggml.token_type.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

# How text is cut before merging, by tokenizer.ggml.pre. The patterns are the models' own, from their tokenizer.json.
_TIKTOKEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_LLAMA3 = _TIKTOKEN % "{1,3}"
_QWEN2 = _TIKTOKEN % ""
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "smaug-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
    "tekken": _TEKKEN,
}
_GPT2 = ("default", "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "roberta-bpe")
_DIGITS_THEN_GPT2 = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
# Vocabularies in which a whole word outranks its merges, and which begin with BOS unless told otherwise.
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "tekken")


class _Metadata:
    """tokenizer.ggml.* with defaults."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._keys = set(checkpoint.metadata_keys())

    def array(self, key: str) -> list[Any]:
        name = f"tokenizer.ggml.{key}"
        return self._checkpoint.metadata(name) if name in self._keys else []

    def value(self, key: str, otherwise: Any = None) -> Any:
        found = self.array(key)
        return found[0] if found else otherwise

    def templates(self) -> dict[str, str]:
        prefix = "tokenizer.chat_template"
        found = {}
        for key in self._keys:
            if key == prefix:
                found["default"] = self._checkpoint.metadata(key)[0]
            elif key.startswith(prefix + "."):
                found[key[len(prefix) + 1 :]] = self._checkpoint.metadata(key)[0]
        return found


def gguf_text(checkpoint: Checkpoint) -> tuple[Tokenizer | None, str, dict[str, str], dict[str, str]]:
    """(tokenizer or None, why there is none, special tokens by name, chat templates by name).

    A vocabulary of an unknown kind is no reason to refuse the model, which runs on token ids; nor is it to be guessed.
    """
    metadata = _Metadata(checkpoint)
    tokens: list[str] = metadata.array("tokens")
    kind = metadata.value("model")
    if not tokens or kind is None:
        return None, "the GGUF file has no tokenizer.ggml.tokens", {}, metadata.templates()
    builders = {"gpt2": _byte_level_bpe, "llama": _sentencepiece_bpe, "bert": _wordpiece}
    special = _special_tokens(metadata, tokens)
    if kind not in builders:
        why = f"tokenizer.ggml.model {kind!r} is none of {', '.join(builders)}"
        return None, why, special, metadata.templates()
    pre = metadata.value("pre", "default")
    if kind == "gpt2" and pre not in (*_PATTERNS, *_DIGITS_THEN_GPT2, *_GPT2):
        why = f"tokenizer.ggml.pre {pre!r} is not known, and a guess would split words wrongly"
        return None, why, special, metadata.templates()
    return builders[kind](metadata, tokens, special), "", special, metadata.templates()


def _special_tokens(metadata: _Metadata, tokens: list[str]) -> dict[str, str]:
    names = {
        "bos": "bos_token",
        "eos": "eos_token",
        "unknown": "unk_token",
        "padding": "pad_token",
        "seperator": "sep_token",  # the format's own spelling
        "cls": "cls_token",
        "mask": "mask_token",
    }
    found = {}
    for key, name in names.items():
        index = metadata.value(f"{key}_token_id")
        if index is not None:
            if not 0 <= index < len(tokens):
                raise CheckpointError(f"tokenizer.ggml.{key}_token_id {index} is outside the {len(tokens)} tokens")
            found[name] = tokens[index]
    return found


def _vocabulary(tokens: list[str]) -> dict[str, int]:
    """Token to id; of two equal tokens the first counts, the other keeps its id and is never made."""
    vocab: dict[str, int] = {}
    for index, token in enumerate(tokens):
        vocab.setdefault(token, index)
    return vocab


def _finish(tokenizer: Tokenizer, metadata: _Metadata, tokens: list[str], special: dict[str, str], bos: bool) -> None:
    """Added tokens by token type, and BOS and EOS around a text."""
    types = metadata.array("token_type")
    controls = [tokens[i] for i, kind in enumerate(types) if kind in (_CONTROL, _UNKNOWN)]
    controls += [token for name, token in special.items() if name != "pad_token" and token not in controls]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in controls if token])
    defined = [tokens[i] for i, kind in enumerate(types) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in defined if token])
    add_bos = special.get("bos_token") if metadata.value("add_bos_token", bos) else None
    add_eos = special.get("eos_token") if metadata.value("add_eos_token", False) else None
    if add_bos or add_eos:
        wrap_ends(tokenizer, add_bos, add_eos)


def _byte_level_bpe(metadata: _Metadata, tokens: list[str], special: dict[str, str]) -> Tokenizer:
    merges = []
    for merge in metadata.array("merges"):
        left, separator, right = merge.partition(" ")
        if not separator:
            raise CheckpointError(f"tokenizer.ggml.merges: {merge!r} is not two tokens")
        merges.append((left, right))
    pre = metadata.value("pre", "default")
    try:
        model = models.BPE(_vocabulary(tokens), merges, ignore_merges=pre in _WHOLE_WORDS_FIRST)
    except Exception as error:  # what `tokenizers` raises is a bare Exception
        raise CheckpointError(f"tokenizer.ggml.merges: {error}") from None
    tokenizer = Tokenizer(model)
    prefix_space = bool(metadata.value("add_space_prefix", False))
    if pre in _PATTERNS:
        if pre in ("qwen2", "deepseek-r1-qwen"):
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PATTERNS[pre]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False),
            ]
        )
    elif pre in _DIGITS_THEN_GPT2:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    _finish(tokenizer, metadata, tokens, special, bos=pre in _WHOLE_WORDS_FIRST)
    return tokenizer


def _sentencepiece_bpe(metadata: _Metadata, tokens: list[str], special: dict[str, str]) -> Tokenizer:
    """SentencePiece merges the pair whose union has the best score: a BPE with merges in order of score."""
    scores = metadata.array("scores")
    if len(scores) != len(tokens):
        raise CheckpointError(f"tokenizer.ggml.scores has {len(scores)} values for {len(tokens)} tokens")
    vocab = _vocabulary(tokens)
    types = metadata.array("token_type")
    plain = {token for i, token in enumerate(tokens) if i >= len(types) or types[i] not in (_UNKNOWN, _CONTROL)}
    ranked: list[tuple[float, int, int, str, str]] = []
    for token in plain:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in plain and right in plain:
                ranked.append((-scores[vocab[token]], vocab[left], vocab[right], left, right))
    ranked.sort()
    unknown = special.get("unk_token", tokens[0])
    model = models.BPE(
        vocab, [(left, right) for *_, left, right in ranked], unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    prefix_space = bool(metadata.value("add_space_prefix", True))
    spaces = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *spaces] if prefix_space else spaces)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix_space else steps)
    _finish(tokenizer, metadata, tokens, special, bos=True)
    return tokenizer


def _wordpiece(metadata: _Metadata, tokens: list[str], special: dict[str, str]) -> Tokenizer:
    """GGUF marks the tokens that begin a word with "▁", where BERT marks those that do not with "##"."""
    types = metadata.array("token_type")
    vocab: dict[str, int] = {}
    for index, token in enumerate(tokens):
        control = (index < len(types) and types[index] in (_UNKNOWN, _CONTROL)) or token in special.values()
        if token.startswith("▁"):
            token = token[1:]
        elif not control and not (token.startswith("[") and token.endswith("]") and len(token) > 2):
            token = "##" + token
        vocab.setdefault(token, index)
    return wordpiece_tokenizer(vocab, special, lowercase=True, strip_accents=None, chinese=True)
