"""Tiny checkpoints with tokenizers, written without any framework."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from pyft.presets import Preset, write_checkpoint

PAGE = (
    "A dam holds the river back until the town below has gone to sleep. Then the keeper opens the gates, one by one, "
    "and counts: one, two, three, 4, 5, 66, 777. He writes the numbers down, for nobody; it's the habit of a man who's "
    "been alone too long. — Ça va? he says to the otter. Es läuft, says the otter. 川は流れる。 🙂🦦\n\n"
    "def main():\n    return {'a': 1}\n"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TINY_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}

TINY_BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 200,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
    "torch_dtype": "float32",
}

WORDS = [
    "the",
    "a",
    "dam",
    "river",
    "otter",
    "holds",
    "sleeps",
    "runs",
    "back",
    "town",
    "below",
    "keeper",
    "opens",
    "gates",
    "one",
    "two",
    "three",
    "man",
    "alone",
    "long",
    "and",
    "is",
    "to",
    "of",
    "it",
    "he",
    "she",
    "they",
    "water",
    "cold",
    "warm",
    "fish",
    "bread",
]


def byte_level_tokenizer(vocab_size: int = 512) -> Tokenizer:
    """A byte-level BPE learned from PAGE, with ChatML's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<s>", "<|im_end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PAGE] * 4, trainer)
    return tokenizer


def write_llama(folder: Path, seed: int = 0, **changes: object) -> Path:
    write_checkpoint(Preset({**TINY_LLAMA, **changes}, "float32"), folder, seed)
    tokenizer = byte_level_tokenizer()
    # Saved with truncation and padding on, as many checkpoints are: pyft must not inherit them.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def bert_vocabulary() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *[f"##{letter}" for letter in letters]]
    tokens += [*",.!?'-0123456789", *(word for word in WORDS if len(word) > 1)]
    return tokens


def write_bert(folder: Path, seed: int = 0) -> Path:
    write_checkpoint(Preset(TINY_BERT, "float32"), folder, seed)
    (folder / "vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return folder
