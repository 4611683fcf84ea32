"""GGUF files of the small models, written with the gguf package as llama.cpp's converter lays them out.

gguf-py quantises the simple types; it only reads the K types, so their quantisers are here. They are plain (scales
from each sub-block's range): what matters is that the blocks use their whole format and decode to known numbers.
"""

from __future__ import annotations

import copy
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type

from . import models

BLOCK_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
FLOAT_TYPES = ["F32", "F16", "BF16"]

# Sizes that the 256-weight blocks of the K types fit.
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
_LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}

# name -> (GGUF architecture, class, config)
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "LlamaForCausalLM", {}),
    "llama-tied": ("llama", "LlamaForCausalLM", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama-biases": ("llama", "LlamaForCausalLM", {"attention_bias": True}),
    "llama-llama3": ("llama", "LlamaForCausalLM", {"rope_parameters": _LLAMA3}),
    "llama-linear": ("llama", "LlamaForCausalLM", {"rope_parameters": _LINEAR}),
    "llama-yarn": ("llama", "LlamaForCausalLM", {"rope_parameters": _YARN}),
    "llama-yarn-betas": (
        "llama",
        "LlamaForCausalLM",
        {"rope_parameters": {**_YARN, "beta_fast": 8.0, "beta_slow": 2.0}},
    ),
    "llama-wide-heads": ("llama", "LlamaForCausalLM", {"head_dim": 128}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", {}),
    "qwen2-tied": ("qwen2", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {"head_dim": 128}),
    "gemma2": (
        "gemma2",
        "Gemma2ForCausalLM",
        {
            "query_pre_attn_scalar": 64,
            "sliding_window": 6,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
        },
    ),
    "gemma3": (
        "gemma3",
        "Gemma3ForCausalLM",
        {
            "query_pre_attn_scalar": 64,
            "sliding_window": 6,
            "num_hidden_layers": 6,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            },
        },
    ),
    "bert": ("bert", "BertModel", {"max_position_embeddings": 160, "pad_token_id": 0}),
}


def build(name: str, seed: int) -> transformers.PreTrainedModel:
    """The file's model, float32, before any quantisation."""
    arch, model_class, own = FILES[name]
    kind = getattr(transformers, model_class)
    sizes = {**models._SIZES, **SIZES, **own}
    if arch == "qwen2":
        del sizes["head_dim"]
    if arch == "bert":
        del sizes["num_key_value_heads"], sizes["head_dim"]
    config = kind.config_class(**sizes, attn_implementation="eager")
    model = kind(config, add_pooling_layer=False) if arch == "bert" else kind(config)
    models.randomise(model, seed)
    return model.eval()


# ---------------------------------------------------------------------------------------------------- quantisers


def _half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16)


def _pack_scales(scales: np.ndarray, mins: np.ndarray) -> np.ndarray:
    """Eight 6-bit scales and minimums in 12 bytes: [blocks, 8] twice -> [blocks, 12]."""
    low_scales, high_scales = scales[:, :4], scales[:, 4:]
    low_mins, high_mins = mins[:, :4], mins[:, 4:]
    return np.concatenate(
        [
            low_scales | (high_scales >> 4) << 6,
            low_mins | (high_mins >> 4) << 6,
            (high_scales & 15) | (high_mins & 15) << 4,
        ],
        axis=1,
    ).astype(np.uint8)


def _quantise_with_minimum(rows: np.ndarray, levels: int) -> tuple[np.ndarray, ...]:
    """Q4_K's and Q5_K's numbers: d * scale * q - dmin * minimum over 8 sub-blocks of 32."""
    blocks = rows.reshape(-1, 8, 32)
    low = np.minimum(blocks.min(-1), 0)
    step = (blocks.max(-1) - low) / levels
    d = _half(step.max(-1) / 63)[:, None]
    dmin = _half(-low.min(-1) / 63)[:, None]
    wide_d, wide_dmin = d.astype(np.float32), dmin.astype(np.float32)
    scales = np.clip(np.round(step / np.where(wide_d == 0, 1, wide_d)), 0, 63).astype(np.uint8)
    mins = np.clip(np.round(-low / np.where(wide_dmin == 0, 1, wide_dmin)), 0, 63).astype(np.uint8)
    unit = (wide_d * scales)[..., None]
    quants = (blocks + (wide_dmin * mins)[..., None]) / np.where(unit == 0, 1, unit)
    quants = np.clip(np.round(quants), 0, levels).astype(np.uint8)
    head = np.concatenate([d.view(np.uint8), dmin.view(np.uint8), _pack_scales(scales, mins)], axis=1)
    return head, quants


def _nibbles(quants: np.ndarray) -> np.ndarray:
    """[blocks, 8, 32] -> [blocks, 128]: of each pair of sub-blocks one lies in the low halves, one in the high."""
    pairs = quants.reshape(-1, 4, 2, 32) & 15
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)


def quantise_q4_k(rows: np.ndarray) -> np.ndarray:
    head, quants = _quantise_with_minimum(rows, 15)
    return np.concatenate([head, _nibbles(quants)], axis=1)


def quantise_q5_k(rows: np.ndarray) -> np.ndarray:
    head, quants = _quantise_with_minimum(rows, 31)
    fifth = ((quants >> 4) << np.arange(8, dtype=np.uint8)[None, :, None]).sum(1).astype(np.uint8)
    return np.concatenate([head, fifth, _nibbles(quants)], axis=1)


def quantise_q6_k(rows: np.ndarray) -> np.ndarray:
    """d * scale * (q - 32) over 16 sub-blocks of 16; signed 8-bit scales."""
    blocks = rows.reshape(-1, 16, 16)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
    step = extreme / -32  # the extreme becomes -32: scales of both signs are drawn
    d = _half(np.abs(step).max(-1) / 127)[:, None]
    wide = d.astype(np.float32)
    scales = np.clip(np.round(step / np.where(wide == 0, 1, wide)), -128, 127).astype(np.int8)
    unit = (wide * scales)[..., None]
    quants = np.clip(np.round(blocks / np.where(unit == 0, 1, unit)), -32, 31).astype(np.int32) + 32
    halves = quants.astype(np.uint8).reshape(-1, 2, 4, 32)  # [blocks, half, quarter, 32]
    low = np.stack([halves[:, :, q] & 15 | (halves[:, :, q + 2] & 15) << 4 for q in (0, 1)], axis=2)
    shifts = np.array([0, 2, 4, 6], dtype=np.uint8)[None, None, :, None]
    high = ((halves >> 4) << shifts).sum(2).astype(np.uint8)
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scales.view(np.uint8), d.view(np.uint8)], axis=1)


_K_QUANTISERS = {"Q4_K": quantise_q4_k, "Q5_K": quantise_q5_k, "Q6_K": quantise_q6_k}


def quantise(weight: np.ndarray, kind: str) -> np.ndarray:
    """[rows, columns] float32 -> the rows' blocks."""
    if kind in _K_QUANTISERS:
        return np.ascontiguousarray(_K_QUANTISERS[kind](weight).reshape(weight.shape[0], -1))
    return gguf.quants.quantize(weight, Type[kind])


# -------------------------------------------------------------------------------------------------------- writer


def _permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """The row order of llama.cpp's rotary pairs: each head's halves are interleaved."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _add_metadata(writer: gguf.GGUFWriter, arch: str, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    if arch == "bert":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if arch.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    _add_rope(writer, arch, config)


def _add_rope(writer: gguf.GGUFWriter, arch: str, config: Any) -> None:
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_freq_base(rope["rope_theta"])
    if arch == "llama":
        writer.add_rope_dimension_count(head_dim)
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "beta_fast" in rope:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if kind == "llama3":  # as divisors of the plain frequencies
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy().astype(np.float32))


def write(
    name: str, path: Path, seed: int, kind: str, embedding_kind: str | None = None, version: int = 3
) -> transformers.PreTrainedModel:
    """Writes the file with its matrices stored as `kind`, and returns the model that holds exactly what it says."""
    arch = FILES[name][0]
    model = build(name, seed)
    exact = copy.deepcopy(model)
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    writer = gguf.GGUFWriter(path, arch)
    _add_metadata(writer, arch, config)
    into = dict(exact.named_parameters())
    for parameter, weight in model.named_parameters():
        if arch == "bert" and parameter.endswith("position_ids"):
            continue
        stored = names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        assert stored is not None, parameter
        data = weight.detach().numpy()
        part = parameter.split(".")[-2]
        permuted = arch == "llama" and part in heads
        if permuted:
            data = _permute(data, heads[part])
        if arch.startswith("gemma") and "norm" in stored:
            data = data + 1
        if data.ndim == 1 or stored in ("position_embd.weight", "token_types.weight"):
            writer.add_tensor(stored, np.ascontiguousarray(data))
            continue
        type_name = embedding_kind if embedding_kind and stored == "token_embd.weight" else kind
        blocks = quantise(np.ascontiguousarray(data), type_name)
        writer.add_tensor(stored, blocks, raw_dtype=Type[type_name])
        decoded = gguf.quants.dequantize(blocks, Type[type_name]).astype(np.float32)
        with torch.no_grad():
            into[parameter].copy_(torch.from_numpy(_unpermute(decoded, heads[part]) if permuted else decoded))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if version != 3:  # version 2 differs in nothing but the number
        with open(path, "r+b") as file:
            file.seek(4)
            file.write(struct.pack("<I", version))
    return exact
