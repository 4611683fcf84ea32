"""The parts of tokenizers that folders and GGUF files share."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from pyft.errors import CheckpointError


def wrap_ends(tokenizer: Tokenizer, bos: str | None, eos: str | None) -> None:
    """Makes the tokenizer put `bos` before and `eos` after every text, and nothing else."""
    ids = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys((bos, eos)) if token]
    for token, index in ids:
        if index is None:
            raise CheckpointError(f"the tokenizer's vocabulary lacks its special token {token!r}")
    single = [token for token in (bos, "$A", eos) if token]
    pair = [f"{token}:0" for token in single] + [f"{token}:1" for token in (bos, "$B", eos) if token]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[f"{token}:0" for token in single], pair=pair, special_tokens=ids
    )


def wordpiece_tokenizer(
    vocab: dict[str, int], special: dict[str, str], *, lowercase: bool, strip_accents: bool | None, chinese: bool
) -> Tokenizer:
    defaults = {"unk": "[UNK]", "sep": "[SEP]", "cls": "[CLS]", "pad": "[PAD]", "mask": "[MASK]"}
    names = {kind: special.get(f"{kind}_token", text) for kind, text in defaults.items()}
    for kind in ("unk", "sep", "cls"):
        if names[kind] not in vocab:
            raise CheckpointError(f"the WordPiece vocabulary lacks {names[kind]!r}")
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=names["unk"], max_input_chars_per_word=100))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in names.values() if token in vocab])
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese, strip_accents=strip_accents, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = names["cls"], names["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
