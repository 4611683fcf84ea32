"""Checkpoints of random weights in the shapes of well-known models, so that speed can be measured without them.

A preset is a config.json, as transformers would write it, and the tensors that the family's checkpoints hold. The
folder is an ordinary checkpoint: any tool can read it.
"""

import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]

# Random numbers are drawn once and repeated: 8 billion of them would take longer than what is to be measured.
_BLOCK = 1 << 20

_NORM = re.compile(r"(norm|LayerNorm|ln_\w+)\.weight$")
_T5_QUERY = re.compile(r"Attention\.q\.weight$")  # T5 does not divide scores by the root of the head's size
_T5_HEAD = 128


@dataclass(frozen=True, slots=True)
class Preset:
    """A shape: its config.json, and the type its weights are stored in ("float32" or "bfloat16")."""

    config: dict[str, Any]
    dtype: str

    def tensors(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes, in file order."""
        return _TENSORS[self.config["model_type"]](self.config)


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocab: int, **more: Any) -> Preset:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }
    return Preset(config, "bfloat16")


def _bert(hidden: int, layers: int, heads: int) -> Preset:
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    return Preset(config, "float32")


def _gpt(kind: str, model_class: str, hidden: int, layers: int, heads: int, vocab: int, **more: Any) -> Preset:
    config = {
        "architectures": [model_class],
        "model_type": kind,
        "vocab_size": vocab,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    names = ("n_embd", "n_layer", "n_head") if kind in ("gpt2", "gptj") else _LONG_NAMES
    return Preset({**config, **dict(zip(names, (hidden, layers, heads), strict=True)), **more}, "bfloat16")


def _t5(hidden: int, layers: int, heads: int, head_dim: int, inner: int) -> Preset:
    config = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_model": hidden,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "d_kv": head_dim,
        "d_ff": inner,
        "vocab_size": 32128,
        "feed_forward_proj": "relu",
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return Preset(config, "bfloat16")


_LONG_NAMES = ("hidden_size", "num_hidden_layers", "num_attention_heads")

PRESETS: dict[str, Preset] = {
    "smollm2-135m": _llama(576, 30, 9, 3, 1536, 49152, rope_theta=100000.0, tie_word_embeddings=True),
    "llama-1b": _llama(2048, 16, 32, 8, 8192, 128256, tie_word_embeddings=True),
    "llama-3b": _llama(3072, 28, 24, 8, 8192, 128256, tie_word_embeddings=True),
    "llama-8b": _llama(4096, 32, 32, 8, 14336, 128256),
    "gpt2": _gpt("gpt2", "GPT2LMHeadModel", 768, 12, 12, 50257, n_positions=1024),
    "gpt2-xl": _gpt("gpt2", "GPT2LMHeadModel", 1600, 48, 25, 50257, n_positions=1024),
    "gptj-6b": _gpt("gptj", "GPTJForCausalLM", 4096, 28, 16, 50400, n_positions=2048, rotary_dim=64),
    "gpt-neox-20b": _gpt(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        6144,
        44,
        64,
        50432,
        intermediate_size=24576,
        hidden_act="gelu_fast",
        rotary_pct=0.25,
        max_position_embeddings=2048,
    ),
    "opt-125m": _gpt("opt", "OPTForCausalLM", 768, 12, 12, 50272, ffn_dim=3072, max_position_embeddings=2048),
    "bloom-560m": _gpt("bloom", "BloomForCausalLM", 1024, 24, 16, 250880, seq_length=2048),
    "t5-3b": _t5(1024, 24, 32, 128, 16384),
    "bert-base": _bert(768, 12, 12),
    "bert-large": _bert(1024, 24, 16),
    "minilm-l6": _bert(384, 6, 12),
    "minilm-l12": _bert(384, 12, 12),
}


def _llama_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
        yield prefix + "self_attn.k_proj.weight", (kv, hidden)
        yield prefix + "self_attn.v_proj.weight", (kv, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield prefix + "mlp.gate_proj.weight", (inner, hidden)
        yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def _bert_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _with_bias("embeddings.LayerNorm", (hidden,))
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for name in ("query", "key", "value"):
            yield from _with_bias(f"{prefix}attention.self.{name}", (hidden, hidden))
        yield from _with_bias(prefix + "attention.output.dense", (hidden, hidden))
        yield from _with_bias(prefix + "attention.output.LayerNorm", (hidden,))
        yield from _with_bias(prefix + "intermediate.dense", (inner, hidden))
        yield from _with_bias(prefix + "output.dense", (hidden, inner))
        yield from _with_bias(prefix + "output.LayerNorm", (hidden,))
    yield from _with_bias("pooler.dense", (hidden, hidden))


def _gpt2_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden = config["n_embd"]
    yield "transformer.wte.weight", (config["vocab_size"], hidden)
    yield "transformer.wpe.weight", (config["n_positions"], hidden)
    for layer in range(config["n_layer"]):
        prefix = f"transformer.h.{layer}."
        yield from _with_bias(prefix + "ln_1", (hidden,))
        yield from _transposed_with_bias(prefix + "attn.c_attn", (3 * hidden, hidden))
        yield from _transposed_with_bias(prefix + "attn.c_proj", (hidden, hidden))
        yield from _with_bias(prefix + "ln_2", (hidden,))
        yield from _transposed_with_bias(prefix + "mlp.c_fc", (4 * hidden, hidden))
        yield from _transposed_with_bias(prefix + "mlp.c_proj", (hidden, 4 * hidden))
    yield from _with_bias("transformer.ln_f", (hidden,))


def _gptj_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, vocab = config["n_embd"], config["vocab_size"]
    yield "transformer.wte.weight", (vocab, hidden)
    for layer in range(config["n_layer"]):
        prefix = f"transformer.h.{layer}."
        yield from _with_bias(prefix + "ln_1", (hidden,))
        for name in ("q", "k", "v", "out"):
            yield f"{prefix}attn.{name}_proj.weight", (hidden, hidden)
        yield from _with_bias(prefix + "mlp.fc_in", (4 * hidden, hidden))
        yield from _with_bias(prefix + "mlp.fc_out", (hidden, 4 * hidden))
    yield from _with_bias("transformer.ln_f", (hidden,))
    yield from _with_bias("lm_head", (vocab, hidden))


def _opt_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config["hidden_size"], config["ffn_dim"]
    yield "model.decoder.embed_tokens.weight", (config["vocab_size"], hidden)
    yield "model.decoder.embed_positions.weight", (config["max_position_embeddings"] + 2, hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.decoder.layers.{layer}."
        yield from _with_bias(prefix + "self_attn_layer_norm", (hidden,))
        for name in ("q", "k", "v", "out"):
            yield from _with_bias(f"{prefix}self_attn.{name}_proj", (hidden, hidden))
        yield from _with_bias(prefix + "final_layer_norm", (hidden,))
        yield from _with_bias(prefix + "fc1", (inner, hidden))
        yield from _with_bias(prefix + "fc2", (hidden, inner))
    yield from _with_bias("model.decoder.final_layer_norm", (hidden,))


def _neox_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    yield "gpt_neox.embed_in.weight", (vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        yield from _fused_layer(f"gpt_neox.layers.{layer}.", "attention", hidden, config["intermediate_size"])
    yield from _with_bias("gpt_neox.final_layer_norm", (hidden,))
    yield "embed_out.weight", (vocab, hidden)


def _bloom_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden = config["hidden_size"]
    yield "transformer.word_embeddings.weight", (config["vocab_size"], hidden)
    yield from _with_bias("transformer.word_embeddings_layernorm", (hidden,))
    for layer in range(config["num_hidden_layers"]):
        yield from _fused_layer(f"transformer.h.{layer}.", "self_attention", hidden, 4 * hidden)
    yield from _with_bias("transformer.ln_f", (hidden,))


def _t5_tensors(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    yield "shared.weight", (config["vocab_size"], config["d_model"])
    for stack in ("encoder", "decoder"):
        for layer in range(config["num_layers"]):
            yield from _t5_block(f"{stack}.block.{layer}.layer.", config, layer == 0, stack == "decoder")
        yield f"{stack}.final_layer_norm.weight", (config["d_model"],)


def _t5_block(prefix: str, config: dict[str, Any], first: bool, decoder: bool) -> Iterator[tuple[str, Shape]]:
    hidden, inner, width = config["d_model"], config["d_ff"], config["num_heads"] * config["d_kv"]
    parts = ["SelfAttention", "EncDecAttention", "DenseReluDense"] if decoder else ["SelfAttention", "DenseReluDense"]
    for i, part in enumerate(parts):
        yield f"{prefix}{i}.layer_norm.weight", (hidden,)
        if part == "DenseReluDense":
            yield f"{prefix}{i}.{part}.wi.weight", (inner, hidden)
            yield f"{prefix}{i}.{part}.wo.weight", (hidden, inner)
            continue
        if first and part == "SelfAttention":
            buckets = config["relative_attention_num_buckets"]
            yield f"{prefix}{i}.{part}.relative_attention_bias.weight", (buckets, config["num_heads"])
        for name in ("q", "k", "v"):
            yield f"{prefix}{i}.{part}.{name}.weight", (width, hidden)
        yield f"{prefix}{i}.{part}.o.weight", (hidden, width)


def _fused_layer(prefix: str, attention: str, hidden: int, inner: int) -> Iterator[tuple[str, Shape]]:
    """A layer of GPT-NeoX and BLOOM, whose query, key and value are one matrix."""
    yield from _with_bias(prefix + "input_layernorm", (hidden,))
    yield from _with_bias(f"{prefix}{attention}.query_key_value", (3 * hidden, hidden))
    yield from _with_bias(f"{prefix}{attention}.dense", (hidden, hidden))
    yield from _with_bias(prefix + "post_attention_layernorm", (hidden,))
    yield from _with_bias(prefix + "mlp.dense_h_to_4h", (inner, hidden))
    yield from _with_bias(prefix + "mlp.dense_4h_to_h", (hidden, inner))


def _with_bias(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", shape
    yield name + ".bias", shape[:1]


def _transposed_with_bias(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", shape[::-1]
    yield name + ".bias", shape[:1]


_TENSORS: dict[str, Callable[[dict[str, Any]], Iterator[tuple[str, Shape]]]] = {
    "llama": _llama_tensors,
    "bert": _bert_tensors,
    "gpt2": _gpt2_tensors,
    "gptj": _gptj_tensors,
    "gpt_neox": _neox_tensors,
    "opt": _opt_tensors,
    "bloom": _bloom_tensors,
    "t5": _t5_tensors,
}


def write_checkpoint(preset: Preset, folder: Path, seed: int = 0) -> None:
    """Writes config.json and model.safetensors; equal seeds give equal files. The weights are never all in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(preset.config, indent=2), encoding="utf-8")
    width, code = (2, "BF16") if preset.dtype == "bfloat16" else (4, "F32")
    header: dict[str, Any] = {}
    offset = 0
    tensors = list(preset.tensors())
    for name, shape in tensors:
        size = width * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = np.random.default_rng(seed).standard_normal(_BLOCK, dtype=np.float32)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            _write_values(file, name, shape, draw, preset.dtype)


def _write_values(file: BinaryIO, name: str, shape: Shape, draw: npt.NDArray[np.float32], dtype: str) -> None:
    """Norms near 1, biases near 0, matrices scaled so that activations neither die nor explode."""
    if len(shape) == 1:
        block = draw * 0.02 + (1.0 if _NORM.search(name) else 0.0)
    else:
        scale = 0.02 if "embed" in name else shape[-1] ** -0.5
        block = draw * np.float32(scale * _T5_HEAD**-0.5 if _T5_QUERY.search(name) else scale)
    raw = _bfloat16(block) if dtype == "bfloat16" else block.astype("<f4")
    left = int(np.prod(shape, dtype=np.int64))
    # Each tensor begins elsewhere in the block, so that no two are alike.
    start = hash_of(name) % _BLOCK
    while left:
        part = raw[start : start + left]
        file.write(part.tobytes())
        left -= part.size
        start = 0


def _bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of the float32 bits, rounded to nearest."""
    bits = values.astype("<f4").view("<u4")
    rounded: npt.NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def hash_of(name: str) -> int:
    """FNV-1a: the same in every process, as str's own hash is not."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value
