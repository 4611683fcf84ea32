"""Text from tokens as they come: pieces that never end inside a character and that join to the whole text."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def decode(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))


class Detokenizer:
    """Decodes a growing list of tokens. How a token reads depends on the ones before it (spaces, halves of a
    character), so each step decodes the last settled tokens with the new ones, and takes what they add.

    SentencePiece's byte tokens (<0x0A>) are held back to the end of their run: one wrong byte changes how all of the
    run reads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._tokens: list[int] = []
        self._context = 0  # first token of the window that is decoded
        self._settled = 0  # tokens whose text was handed out
        self.pending = ""
        """What is held back, as it reads so far."""

    def add(self, tokens: Sequence[int]) -> str:
        """The text that these tokens settle; "" while a character is incomplete."""
        self._tokens.extend(token for token in tokens if token not in self._special)
        known, text = self._window()
        if len(text) <= len(known) or text.endswith(_INCOMPLETE) or self._ends_in_a_byte():
            self.pending = text[len(known) :]
            return ""
        return self._settle(text[len(known) :])

    def finish(self) -> str:
        """What was held back, as it reads now that nothing follows."""
        known, text = self._window()
        return self._settle(text[len(known) :])

    def _settle(self, piece: str) -> str:
        self._context, self._settled = self._settled, len(self._tokens)
        self.pending = ""
        return piece

    def _window(self) -> tuple[str, str]:
        settled = self._tokens[self._context : self._settled]
        known = decode(self._tokenizer, settled) if settled else ""
        return known, decode(self._tokenizer, self._tokens[self._context :])

    def _ends_in_a_byte(self) -> bool:
        return bool(self._tokens) and bool(_BYTE.fullmatch(self._tokenizer.id_to_token(self._tokens[-1]) or ""))


class StopStrings:
    """Whether a sequence's last token completes a string that ends it. As in transformers, the text keeps the string,
    and whatever else the token that completed it holds; the string may begin in the prompt."""

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = strings
        # Tokens that surely hold the longest string: a token may be one of a character's four bytes.
        self.window = 4 * max(map(len, strings)) + 8

    def __call__(self, tokens: Sequence[int]) -> bool:
        window = tokens[-self.window :]
        known, text = decode(self._tokenizer, window[:-1]), decode(self._tokenizer, window)
        same = next(
            (i for i, (a, b) in enumerate(zip(known, text, strict=False)) if a != b), min(len(known), len(text))
        )
        return any(string in text[max(0, same - len(string) + 1) :] for string in self._strings)
