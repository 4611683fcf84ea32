"""Byte-level BPE in plain Python: an oracle for the tokenizer built from a GGUF file that shares no code with it.

The algorithm is GPT-2's (Radford et al., 2019, section 2.2): text is cut into words by a pattern, each word's bytes
become printable characters, and the pair with the lowest merge rank is joined until none is left.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import regex

WORDS = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
DIGIT = regex.compile(r"\p{N}")


@functools.cache
def _byte_characters() -> dict[int, str]:
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


class ByteLevelBpe:
    """Encodes text with digits cut apart first, as SmolLM's tokenizer does."""

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], special: Sequence[str]):
        self.ids = {token: i for i, token in reversed(list(enumerate(tokens)))}
        self.tokens = list(tokens)
        self.ranks = {tuple(merge.split(" ")): i for i, merge in enumerate(merges)}
        longest_first = sorted(special, key=len, reverse=True)
        self.special = regex.compile("(" + "|".join(map(regex.escape, longest_first)) + ")")
        self.special_set = set(special)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self.special.split(text):
            if part in self.special_set:
                ids.append(self.ids[part])
                continue
            for piece in self._split_digits(part):
                for word in WORDS.findall(piece):
                    ids += [self.ids[token] for token in self._merge(word)]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        back = {c: b for b, c in _byte_characters().items()}
        text = bytearray()
        for i in ids:
            token = self.tokens[i]
            text += token.encode() if token in self.special_set else bytes(back[c] for c in token)
        return text.decode(errors="replace")

    @staticmethod
    def _split_digits(text: str) -> list[str]:
        pieces, start = [], 0
        for match in DIGIT.finditer(text):
            pieces += [text[start : match.start()], match.group()]
            start = match.end()
        return [p for p in [*pieces, text[start:]] if p]

    def _merge(self, word: str) -> list[str]:
        parts = [_byte_characters()[b] for b in word.encode()]
        while len(parts) > 1:
            pairs = itertools.pairwise(parts)
            ranked = [(self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(pairs)]
            rank, i = min(ranked)
            if rank == len(self.ranks):
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        return parts
