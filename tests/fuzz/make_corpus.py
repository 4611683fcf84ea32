"""Writes the seed corpus of the fuzz targets: small good files, and files that are wrong in one way each.

python tests/fuzz/make_corpus.py writes corpus/{safetensors,gguf,ini,pickle,torch,config}/seed-*. Inputs that
once showed a fault lie beside them as regression-*; they are not made here and are left alone.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from pathlib import Path

HERE = Path(__file__).parent

# Of libft/arch: every configuration key is a word that the config fuzzer may use.
ARCH = HERE.parent.parent / "libft" / "arch"


def safetensors(header: object, data: bytes) -> bytes:
    """A file of this header (an object, or text that is written as it is) and data."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds() -> dict[str, bytes]:
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    sizes |= {"U16": 2, "U32": 4, "U64": 8}
    every, at = {}, 0
    for dtype, size in sizes.items():
        every[dtype.lower()] = entry(dtype, [2, 3], at, at + 6 * size)
        at += 6 * size
    two = {"a": entry("F32", [2, 2], 0, 16), "b": entry("BF16", [4], 16, 24)}
    good = safetensors(two, bytes(24))
    return {
        "every-dtype": safetensors(every, bytes(i % 256 for i in range(at))),
        "two": good,
        "metadata": safetensors({"__metadata__": {"format": "pt"}, **two}, bytes(24)),
        "padded": safetensors(json.dumps(two) + "     ", bytes(24)),
        "none": safetensors({}, b""),
        "scalar-and-empty": safetensors({"s": entry("F32", [], 0, 4), "e": entry("F32", [0, 7], 4, 4)}, bytes(4)),
        "four-axes": safetensors({"x": entry("U8", [1, 2, 3, 4], 0, 24)}, bytes(24)),
        "truncated": good[:-1],
        "header-cut": good[:40],
        "trailing": good + b"\0",
        "overlap": safetensors({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 7, 15)}, bytes(15)),
        "hole": safetensors({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 9, 17)}, bytes(17)),
        "overflow": safetensors({"a": entry("F32", [2**32, 2**32, 2], 0, 8)}, bytes(8)),
        "huge-offset": safetensors({"a": entry("U8", [8], 2**64 - 9, 2**64 - 1)}, bytes(8)),
        "unsupported": safetensors({"a": entry("F8_E4M3", [8], 0, 8)}, bytes(8)),
        "five-axes": safetensors({"a": entry("U8", [1, 1, 1, 1, 8], 0, 8)}, bytes(8)),
        "twice": safetensors('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', bytes(1)),
        "deep": safetensors("[" * 70 + "]" * 70, b""),
        "length-lies": struct.pack("<Q", 2**63) + b"{}",
    }


U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
GGML = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q4_k": 12, "q5_k": 13, "q6_k": 14}
BLOCKS = {"f32": (1, 4), "f16": (1, 2), "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24)}
BLOCKS |= {"q8_0": (32, 34), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210)}


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind: int, value) -> bytes:
    if kind == STRING:
        return string(value)
    return struct.pack("<" + "BbHhIif?  Qqd"[kind], value)


def pair(key: str, kind: int, value) -> bytes:
    """One metadata entry; a list makes an array."""
    if isinstance(value, list):
        head = struct.pack("<IIQ", ARRAY, kind, len(value))
        return string(key) + head + b"".join(scalar(kind, v) for v in value)
    return string(key) + struct.pack("<I", kind) + scalar(kind, value)


def tensor(name: str, lengths: list[int], kind: int, offset: int) -> bytes:
    dims = struct.pack(f"<{len(lengths)}Q", *lengths)
    return string(name) + struct.pack("<I", len(lengths)) + dims + struct.pack("<IQ", kind, offset)


def gguf(pairs: list[bytes], tensors: list[bytes], data: bytes, version: int = 3, alignment: int = 32) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def every_type() -> bytes:
    tensors, data = [], b""
    for name, code in GGML.items():
        elements, size = BLOCKS[name]
        tensors.append(tensor(name, [2 * elements, 2], code, len(data)))
        data += bytes(4 * size)
        data += bytes(-len(data) % 32)
    return gguf([], tensors, data)


def gguf_seeds() -> dict[str, bytes]:
    scalars = {U8: 255, I8: -1, U16: 7, I16: -7, U32: 9, I32: -9, F32: 0.5, BOOL: True, STRING: "text"}
    scalars |= {U64: 2**63 - 1, I64: -(2**63), F64: -0.5}
    pairs = [pair(f"scalar.{kind}", kind, value) for kind, value in scalars.items()]
    pairs += [pair(f"list.{kind}", kind, [value, value]) for kind, value in scalars.items()]
    name = [pair("general.architecture", STRING, "llama")]
    two = [tensor("a", [8], GGML["f32"], 0), tensor("b", [32, 2], GGML["q4_0"], 32)]
    good = gguf(name, two, bytes(68))
    nested = string("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", U8, 0)
    return {
        "every-value": gguf(pairs, [], b""),
        "every-type": every_type(),
        "two": good,
        "version-2": gguf(name, two, bytes(68), version=2),
        "version-1": gguf(name, two, bytes(68), version=1),
        "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        "aligned-to-8": gguf([pair("general.alignment", U32, 8)], [tensor("a", [2], 0, 8)], bytes(16), alignment=8),
        "alignment-48": gguf([pair("general.alignment", U32, 48)], [], b""),
        "truncated": good[:-1],
        "header-cut": good[:60],
        "overlap": gguf(name, [two[0], tensor("b", [32], GGML["q4_0"], 0)], bytes(68)),
        "unaligned": gguf(name, [tensor("a", [8], 0, 4)], bytes(36)),
        "half-block": gguf(name, [tensor("a", [33], GGML["q4_0"], 0)], bytes(68)),
        "overflow": gguf(name, [tensor("a", [2**32, 2**32, 2**32], 0, 0)], bytes(68)),
        "wraps": gguf(name, [tensor("a", [8], 0, 2**64 - 32)], bytes(68)),
        "five-axes": gguf(name, [tensor("a", [1] * 5, 0, 0)], bytes(4)),
        "unsupported": gguf(name, [tensor("a", [256], 10, 0)], bytes(84)),
        "twice": gguf(name + name, [], b""),
        "nested": gguf([nested], [], b""),
        "count-lies": b"GGUF" + struct.pack("<IQQ", 3, 2**40, 2**40) + bytes(64),
        "list-lies": gguf([string("k") + struct.pack("<IIQ", ARRAY, STRING, 2**60)], [], b""),
    }


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
    "tie_word_embeddings": False,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {
    "type": "yarn",
    "factor": 4.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 32,
    "attention_factor": 1.1,
    "mscale": 1.0,
    "mscale_all_dim": 0.8,
    "truncate": False,
}
GEMMA3 = {
    **LLAMA,
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 16,
    "sliding_window_pattern": 2,
    "rope_local_base_freq": 10000,
    "hidden_activation": "gelu_pytorch_tanh",
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": None,
}
BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "id2label": {"0": "no", "1": "yes"},
    "position_embedding_type": "absolute",
}
DISTILBERT = {
    "architectures": ["DistilBertForMaskedLM"],
    "model_type": "distilbert",
    "vocab_size": 64,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "activation": "gelu",
    "max_position_embeddings": 64,
}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": None,
    "n_positions": 64,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": True,
}
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "use_parallel_residual": False,
    "attention_bias": True,
}
OPT = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "vocab_size": 64,
    "hidden_size": 32,
    "word_embed_proj_dim": 16,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "do_layer_norm_before": False,
    "_remove_final_layer_norm": True,
    "enable_bias": False,
    "layer_norm_elementwise_affine": False,
}
BLOOM = {
    "architectures": ["BloomForCausalLM"],
    "model_type": "bloom",
    "vocab_size": 64,
    "n_embed": 33,
    "n_layer": 2,
    "n_head": 11,
    "seq_length": 64,
    "apply_residual_connection_post_layernorm": True,
}

T5 = {
    "architectures": ["T5ForConditionalGeneration"],
    "model_type": "t5",
    "vocab_size": 64,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}
BART = {
    "architectures": ["BartForConditionalGeneration"],
    "model_type": "bart",
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "activation_function": "gelu",
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
MARIAN = {
    **BART,
    "architectures": ["MarianMTModel"],
    "model_type": "marian",
    "share_encoder_decoder_embeddings": False,
    "decoder_vocab_size": 48,
    "activation_function": "swish",
    "decoder_start_token_id": 47,
}


def gguf_model(name: str, more: list[bytes] = (), tensors: list[bytes] = (), data: bytes = b"") -> bytes:
    numbers = {"block_count": 2, "context_length": 128, "embedding_length": 32, "feed_forward_length": 64}
    numbers |= {"attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 8}
    pairs = [pair("general.architecture", STRING, name), pair("tokenizer.ggml.tokens", STRING, ["<s>", "</s>", "a"])]
    pairs += [pair(f"{name}.{key}", U32, value) for key, value in numbers.items()]
    pairs += [
        pair(f"{name}.attention.layer_norm_rms_epsilon", F32, 1e-5),
        pair(f"{name}.rope.freq_base", F32, 1e4),
        pair("tokenizer.ggml.bos_token_id", U32, 0),
        pair("tokenizer.ggml.eos_token_id", U32, 1),
    ]
    return gguf(pairs + list(more), list(tensors), data)


def config_seeds() -> dict[str, bytes]:
    sliding = ["sliding_attention", "full_attention"]
    configs = {
        "llama": LLAMA,
        "llama3": {**LLAMA, "rope_scaling": LLAMA3_ROPE, "head_dim": 8, "attention_bias": True, "mlp_bias": True},
        "linear": {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "yarn": {**LLAMA, "rope_scaling": YARN_ROPE, "tie_word_embeddings": True},
        "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 16},
        "qwen2": {**LLAMA, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1},
        "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 16, "layer_types": sliding, "sliding_window": 8},
        "gemma": {**LLAMA, "model_type": "gemma", "head_dim": 16, "hidden_act": "gelu"},
        "gemma2": {**GEMMA3, "model_type": "gemma2", "attn_logit_softcapping": 50.0, "layer_types": sliding},
        "gemma3": GEMMA3,
        "gemma3-nested": {"model_type": "gemma3", "text_config": GEMMA3},
        "partial": {**LLAMA, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "bert": BERT,
        "roberta": {**BERT, "model_type": "roberta", "architectures": ["RobertaForTokenClassification"]},
        "distilbert": DISTILBERT,
        "gpt2": GPT2,
        "gptj": {**GPT2, "model_type": "gptj", "architectures": ["GPTJForCausalLM"], "rotary_dim": 4},
        "gpt-neox": NEOX,
        "opt": OPT,
        "bloom": BLOOM,
        "t5": {**T5, "feed_forward_proj": "relu", "tie_word_embeddings": True, "scale_decoder_outputs": True},
        "t5-gated": T5,
        "t5-encoder": {**T5, "architectures": ["T5EncoderModel"]},
        "t5-few-buckets": {**T5, "relative_attention_num_buckets": 4, "relative_attention_max_distance": 2},
        "mt5": {"model_type": "mt5", "d_model": 32, "vocab_size": 64, "num_layers": 2},
        "bart": BART,
        "bart-untied": {**BART, "tie_word_embeddings": False, "forced_eos_token_id": [2, 3]},
        "mbart": {**BART, "model_type": "mbart", "architectures": ["MBartModel"], "scale_embedding": True},
        "marian": MARIAN,
        "many-heads": {**BLOOM, "n_embed": 2**30, "n_head": 2**30},
        "empty": {},
        "no-heads": {**LLAMA, "num_attention_heads": 0},
        "negative": {**LLAMA, "hidden_size": -32},
        "enormous": {**LLAMA, "num_hidden_layers": 2**62, "vocab_size": 2**63 - 1},
        "odd-heads": {**LLAMA, "num_attention_heads": 5, "num_key_value_heads": 3},
        "wrong-types": {**LLAMA, "hidden_size": "32", "rope_scaling": [1], "architectures": "Llama"},
        "unknown": {"model_type": "mamba"},
    }
    seeds = {name: json.dumps(config).encode() for name, config in configs.items()}
    seeds["twice"] = b'{"model_type": "llama", "model_type": "bert"}'
    seeds["cut"] = seeds["llama"][:100]
    yarn = [pair("llama.rope.scaling.type", STRING, "yarn"), pair("llama.rope.scaling.factor", F32, 4.0)]
    embedding = [tensor("token_embd.weight", [32, 3], GGML["f32"], 0)]
    rope = [*embedding, tensor("rope_freqs.weight", [4], GGML["f32"], 384)]
    ones = struct.pack("<4f", 1, 1, 2, 4)
    seeds["gguf-llama"] = gguf_model("llama", tensors=embedding, data=bytes(384))
    seeds["gguf-llama3"] = gguf_model("llama", tensors=rope, data=bytes(384) + ones)
    seeds["gguf-yarn"] = gguf_model("llama", yarn, embedding, bytes(384))
    for name in ("qwen2", "qwen3", "gemma2", "gemma3", "bert"):
        seeds[f"gguf-{name}"] = gguf_model(name, tensors=embedding, data=bytes(384))
    return seeds


def pickled(pairs: bytes) -> bytes:
    return b"\x80\x02}(" + pairs + b"u."


def pickled_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def pickled_tensor(storage: str, elements: int, offset: int, size: list[int], stride: list[int]) -> bytes:
    def integer(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    def integers(values: list[int]) -> bytes:
        return b"(" + b"".join(integer(value) for value in values) + b"t"

    key = pickled_text("storage") + f"ctorch\n{storage}\n".encode() + pickled_text("0") + pickled_text("cpu")
    place = b"((" + key + integer(elements) + b"tQ" + integer(offset) + integers(size) + integers(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + place + b"\x89ccollections\nOrderedDict\n)RtR"


def pickle_seeds() -> dict[str, bytes]:
    tensor = pickled_tensor("FloatStorage", 6, 0, [2, 3], [3, 1])
    name = pickled_text("w")
    arguments = pickled_text("args") + b"cargparse\nNamespace\n)\x81}" + b"(" + pickled_text("n") + b"K\x02ub"
    return {
        "tensor": pickled(name + tensor),
        "transposed": pickled(name + pickled_tensor("HalfStorage", 6, 0, [3, 2], [1, 3])),
        "nested": pickled(pickled_text("model") + b"}(" + name + tensor + b"u" + arguments),
        "past-the-end": pickled(name + pickled_tensor("FloatStorage", 6, 5, [2], [1])),
        "overflow": pickled(name + pickled_tensor("FloatStorage", 6, 0, [2**40, 2**40], [2**40, 1])),
        "negative": pickled(name + pickled_tensor("FloatStorage", 6, -1, [2], [-1])),
        "circle": b"\x80\x02}q\x01(" + name + b"h\x01u.",
        "call": pickled(name + b"cos\nsystem\n(" + pickled_text("echo") + b"tR"),
        "cut": pickled(name + tensor)[:40],
    }


def torch_seeds() -> dict[str, bytes]:
    def archive(data: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as file:
            for entry, contents in {"a/data.pkl": data, "a/data/0": bytes(24), "a/byteorder": b"little"}.items():
                file.writestr(zipfile.ZipInfo(entry), contents, method)
        return out.getvalue()

    seeds = {name: archive(data) for name, data in pickle_seeds().items()}
    whole = seeds["tensor"]
    seeds |= {"deflated": archive(pickle_seeds()["tensor"], zipfile.ZIP_DEFLATED), "truncated": whole[:-1]}
    return seeds | {"start-cut": whole[7:], "commented": whole[:-2] + b"\x05\0PK\5\6x"}


def ini_seeds() -> dict[str, bytes]:
    gpt = (
        b"[gpt]\nmodel_name = gpt\nhead_num = 16\nlayernorm_eps = 1e-05\nhas_adapters = False\nweight_data_type=fp16\n"
    )
    return {
        "gpt": gpt,
        "sections": gpt + b"[structure]\nt5_with_bias : true\n; a comment\n\n# another\nnone = None\n",
        "twice": gpt + gpt,
        "continued": gpt + b"  more\n",
        "no-section": gpt[6:],
        "bytes": b"[\xff\0]\n\r= =:\n",
    }


def config_words() -> list[str]:
    """The JSON keys and words that the families read."""
    source = "".join(path.read_text() for path in sorted(ARCH.glob("*.cc")))
    words = set(re.findall(r'"([a-z0-9_]{3,40})"', source)) | set(re.findall(r'"([A-Z][A-Za-z]+For[A-Za-z]+)"', source))
    return sorted(words)


def main() -> None:
    for target, seeds in {
        "safetensors": safetensors_seeds(),
        "gguf": gguf_seeds(),
        "ini": ini_seeds(),
        "pickle": pickle_seeds(),
        "torch": torch_seeds(),
        "config": config_seeds(),
    }.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for name, data in seeds.items():
            (folder / f"seed-{name}").write_bytes(data)
    words = ["# Words of configurations; written by make_corpus.py."]
    words += [f'"\\"{word}\\""' for word in config_words()]
    words += ['"GGUF"', '"null"', '"-1"', '"0"', '"1e30"', '"9223372036854775807"', '"[]"', '"{}"']
    (HERE / "config.dict").write_text("\n".join(words) + "\n")


if __name__ == "__main__":
    main()
