"""FasterTransformer's "<n>-gpu" folders of the small models, written from its loaders' description of the format.

A file a tensor and rank, headerless; matrices [in, out]; query, key and value as one [in, 3, out / ranks]. What every
rank needs whole has no rank in its name.
"""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path
from typing import Any

import numpy as np
import transformers

DTYPES = {"fp32": np.float32, "fp16": np.float16}


class Folder:
    """Writes tensors of [out, in] matrices and vectors, cut for the ranks."""

    def __init__(self, path: Path, ranks: int, weight_type: str) -> None:
        self.path, self.ranks, self.weight_type = path, ranks, weight_type
        self.config = ConfigParser()
        path.mkdir(parents=True)

    def whole(self, name: str, values: np.ndarray) -> None:
        values.astype(DTYPES[self.weight_type]).tofile(self.path / f"{name}.bin")

    def cut(self, name: str, values: np.ndarray, axis: int) -> None:
        for rank, part in enumerate(np.split(values.astype(DTYPES[self.weight_type]), self.ranks, axis)):
            np.ascontiguousarray(part).tofile(self.path / f"{name}.{rank}.bin")

    def column(self, name: str, weight: np.ndarray) -> None:
        self.cut(name, weight.T, -1)

    def row(self, name: str, weight: np.ndarray) -> None:
        self.cut(name, weight.T, 0)

    def fused(self, name: str, parts: list[np.ndarray]) -> None:
        """Query, key and value, [out, in] or [out] each."""
        self.cut(name, np.stack([part.T for part in parts], axis=-2), -1)

    def close(self, sections: dict[str, dict[str, Any]]) -> None:
        for section, values in sections.items():
            self.config[section] = {key: str(value) for key, value in values.items()}
        with open(self.path / "config.ini", "w") as file:
            self.config.write(file)


def _numpy(model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
    return {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}


def _layer(out: Folder, at: str, w: dict[str, np.ndarray], bias_share: int = 1) -> None:
    """A layer of GPT; `w` by Megatron's names, query, key and value apart."""
    for norm in ("input_layernorm", "post_attention_layernorm"):
        for kind in ("weight", "bias"):
            if f"{norm}.{kind}" in w:
                out.whole(f"{at}.{norm}.{kind}", w[f"{norm}.{kind}"])
    for kind in ("weight", "bias"):
        if f"query.{kind}" in w:
            out.fused(f"{at}.attention.query_key_value.{kind}", [w[f"{p}.{kind}"] for p in ("query", "key", "value")])
    out.row(f"{at}.attention.dense.weight", w["attention.dense.weight"])
    out.column(f"{at}.mlp.dense_h_to_4h.weight", w["mlp.dense_h_to_4h.weight"])
    out.cut(f"{at}.mlp.dense_h_to_4h.bias", w["mlp.dense_h_to_4h.bias"], 0)
    out.row(f"{at}.mlp.dense_4h_to_h.weight", w["mlp.dense_4h_to_h.weight"])
    for name in ("attention.dense.bias", "mlp.dense_4h_to_h.bias"):
        if name in w:
            out.whole(f"{at}.{name}", w[name] / bias_share)


def _renamed(w: dict[str, np.ndarray], prefix: str, names: dict[str, str]) -> dict[str, np.ndarray]:
    """A layer's tensors under Megatron's names; names: theirs -> ours, without .weight and .bias."""
    found = {}
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            if f"{prefix}{theirs}.{kind}" in w:
                found[f"{ours}.{kind}"] = w[f"{prefix}{theirs}.{kind}"]
    return found


def _sizes(heads: int, hidden: int, inner: int, layers: int, vocabulary: int, weight_type: str) -> dict[str, Any]:
    return {
        "model_name": "drawn",
        "head_num": heads,
        "size_per_head": hidden // heads,
        "inter_size": inner,
        "num_layer": layers,
        "vocab_size": vocabulary,
        "start_id": 1,
        "end_id": 2,
        "weight_data_type": weight_type,
    }


def _split(fused: dict[str, np.ndarray], axis: int = 0) -> dict[str, np.ndarray]:
    """query, key and value of a matrix that has them one after another along its outputs."""
    return {
        f"{part}.{kind}": piece
        for kind, values in fused.items()
        for part, piece in zip(("query", "key", "value"), np.split(values, 3, axis), strict=True)
    }


def write_gpt2(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    out.whole("model.wte", w["transformer.wte.weight"])
    out.whole("model.wpe", w["transformer.wpe.weight"])
    for kind in ("weight", "bias"):
        out.whole(f"model.final_layernorm.{kind}", w[f"transformer.ln_f.{kind}"])
    for i in range(c.n_layer):
        at = f"transformer.h.{i}."
        names = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm", "attn.c_proj": "attention.dense"}
        names |= {"mlp.c_fc": "mlp.dense_h_to_4h", "mlp.c_proj": "mlp.dense_4h_to_h"}
        layer = _renamed(w, at, names)
        for name in ("attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"):
            layer[f"{name}.weight"] = layer[f"{name}.weight"].T  # Conv1D
        layer |= _split({"weight": w[at + "attn.c_attn.weight"].T, "bias": w[at + "attn.c_attn.bias"]})
        _layer(out, f"model.layers.{i}", layer)
    inner = c.n_inner or 4 * c.n_embd
    sizes = _sizes(c.n_head, c.n_embd, inner, c.n_layer, c.vocab_size, weight_type)
    out.close({"gpt": sizes | {"max_pos_seq_len": c.n_positions, "tensor_para_size": ranks}})


def write_opt(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    embedding = w["model.decoder.embed_tokens.weight"]
    inward, outward = w.get("model.decoder.project_in.weight"), w.get("model.decoder.project_out.weight")
    out.whole("model.wte", embedding if inward is None else embedding @ inward.T)
    out.whole("model.lm_head.weight", embedding if outward is None else embedding @ outward)
    out.whole("model.wpe", w["model.decoder.embed_positions.weight"][2:])
    final = "model.decoder.final_layer_norm.weight" in w
    for kind in ("weight", "bias") if final else ():
        out.whole(f"model.final_layernorm.{kind}", w[f"model.decoder.final_layer_norm.{kind}"])
    names = {"self_attn_layer_norm": "input_layernorm", "final_layer_norm": "post_attention_layernorm"}
    names |= {"self_attn.out_proj": "attention.dense", "fc1": "mlp.dense_h_to_4h", "fc2": "mlp.dense_4h_to_h"}
    names |= {f"self_attn.{p[0]}_proj": p for p in ("query", "key", "value")}
    for i in range(c.num_hidden_layers):
        _layer(out, f"model.layers.{i}", _renamed(w, f"model.decoder.layers.{i}.", names))
    sizes = _sizes(c.num_attention_heads, c.hidden_size, c.ffn_dim, c.num_hidden_layers, c.vocab_size, weight_type)
    sizes |= {
        "max_pos_seq_len": c.max_position_embeddings,
        "layernorm_eps": "1e-5",
        "layernorm_type": "pre_layernorm" if c.do_layer_norm_before else "post_layernorm",
        "activation_type": "Relu",
        "has_post_decoder_layernorm": int(final),
    }
    out.close({"gpt": sizes})


def write_bloom(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    out.whole("model.wte", w["transformer.word_embeddings.weight"])
    for kind in ("weight", "bias"):
        out.whole(f"model.pre_decoder_layernorm.{kind}", w[f"transformer.word_embeddings_layernorm.{kind}"])
        out.whole(f"model.final_layernorm.{kind}", w[f"transformer.ln_f.{kind}"])
    names = {n: n for n in ("input_layernorm", "post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")}
    names["self_attention.dense"] = "attention.dense"
    for i in range(c.n_layer):
        at = f"transformer.h.{i}."
        layer = _renamed(w, at, names) | _heads_apart(w, at + "self_attention.query_key_value", c.n_head)
        _layer(out, f"model.layers.{i}", layer)
    sizes = _sizes(c.n_head, c.hidden_size, 4 * c.hidden_size, c.n_layer, c.vocab_size, weight_type)
    sizes |= {"layernorm_eps": c.layer_norm_epsilon, "has_positional_encoding": False}
    sizes |= {"has_pre_decoder_layernorm": True, "use_attention_linear_bias": True}
    out.close({"gpt": sizes})


def _heads_apart(w: dict[str, np.ndarray], name: str, heads: int) -> dict[str, np.ndarray]:
    """query, key and value of a matrix that has them head by head."""
    found = {}
    for kind in ("weight", "bias"):
        values = w[f"{name}.{kind}"]
        grouped = values.reshape(heads, 3, -1, *values.shape[1:])
        for i, part in enumerate(("query", "key", "value")):
            found[f"{part}.{kind}"] = grouped[:, i].reshape(-1, *values.shape[1:])
    return found


def write_gptj(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    out.whole("model.wte", w["transformer.wte.weight"])
    for kind in ("weight", "bias"):
        out.whole(f"model.final_layernorm.{kind}", w[f"transformer.ln_f.{kind}"])
        out.whole(f"model.lm_head.{kind}", w[f"lm_head.{kind}"])
    names = {"ln_1": "input_layernorm", "attn.out_proj": "attention.dense"}
    names |= {"mlp.fc_in": "mlp.dense_h_to_4h", "mlp.fc_out": "mlp.dense_4h_to_h"}
    names |= {f"attn.{p[0]}_proj": p for p in ("query", "key", "value")}
    for i in range(c.n_layer):
        _layer(out, f"model.layers.{i}", _renamed(w, f"transformer.h.{i}.", names))
    sizes = _sizes(c.n_head, c.n_embd, c.n_inner or 4 * c.n_embd, c.n_layer, c.vocab_size, weight_type)
    out.close({"gptj": sizes | {"rotary_embedding": c.rotary_dim}})


def write_gpt_neox(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    out.whole("model.wte", w["gpt_neox.embed_in.weight"])
    out.whole("model.lm_head.weight", w["embed_out.weight" if "embed_out.weight" in w else "lm_head.weight"])
    for kind in ("weight", "bias"):
        out.whole(f"model.final_layernorm.{kind}", w[f"gpt_neox.final_layer_norm.{kind}"])
    names = ("input_layernorm", "post_attention_layernorm", "attention.dense")
    names = {n: n for n in (*names, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")}
    for i in range(c.num_hidden_layers):
        at = f"gpt_neox.layers.{i}."
        layer = _renamed(w, at, names) | _heads_apart(w, at + "attention.query_key_value", c.num_attention_heads)
        _layer(out, f"model.layers.{i}", layer, bias_share=ranks)
        if c.use_parallel_residual:
            total = layer["attention.dense.bias"] + layer["mlp.dense_4h_to_h.bias"]
            out.whole(f"model.layers.{i}.mlp.attention.bias.sum", total / ranks)
    heads, hidden = c.num_attention_heads, c.hidden_size
    sizes = _sizes(heads, hidden, c.intermediate_size, c.num_hidden_layers, c.vocab_size, weight_type)
    rotary = int(hidden // heads * c.rope_parameters["partial_rotary_factor"])
    out.close({"gptneox": sizes | {"rotary_embedding": rotary, "use_gptj_residual": int(c.use_parallel_residual)}})


def write_bert(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    """The layers alone, as FasterTransformer has them; the model itself beside them for its embeddings."""
    c, w, out = model.config, _numpy(model), Folder(path, ranks, weight_type)
    for name, values in w.items():
        if not name.startswith("encoder.layer."):
            continue
        if name.endswith(("attention.output.dense.weight", "output.dense.weight")):
            out.row(f"model.{name}", values)
        elif "LayerNorm" in name or name.endswith("output.dense.bias"):
            out.whole(f"model.{name}", values)
        else:
            out.cut(f"model.{name}", values.T, -1)
    values = {
        "model_name": "bert",
        "position_embedding_type": "absolute",
        "hidden_size": c.hidden_size,
        "num_layer": c.num_hidden_layers,
        "head_num": c.num_attention_heads,
        "size_per_head": c.hidden_size // c.num_attention_heads,
        "activation_type": c.hidden_act,
        "inter_size": c.intermediate_size,
        "max_position_embeddings": c.max_position_embeddings,
        "layer_norm_eps": c.layer_norm_eps,
        "weight_data_type": weight_type,
        "tensor_para_size": ranks,
    }
    model.save_pretrained(path)
    out.close({"bert": values})


def write_t5(model: transformers.PreTrainedModel, path: Path, ranks: int, weight_type: str) -> None:
    w, out = _numpy(model), Folder(path, ranks, weight_type)
    out.whole("shared.weight_T", w["shared.weight"])
    out.whole("shared.weight", w["shared.weight"].T)
    if "lm_head.weight" in w:
        out.whole("lm_head.weight", w["lm_head.weight"])
    for name, values in w.items():
        renamed = name.replace("wi_0.", "wi.").replace("wi_1.", "wi2.")
        if name.endswith("layer_norm.weight"):
            out.whole(name, values)
        elif name.endswith((".o.weight", ".wo.weight")):
            out.row(name, values)
        elif name.endswith("relative_attention_bias.weight"):
            out.cut(name, values.T, 0)
        elif "DenseReluDense" in name or "EncDecAttention" in name or name.startswith("encoder.block."):
            out.column(renamed, values)
        elif name.endswith("SelfAttention.q.weight"):
            parts = [w[name.replace(".q.", f".{part}.")] for part in "qkv"]
            out.fused(name.replace(".q.", ".qkv."), parts)
    sections = {}
    for section, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        values = {key: value for key, value in stack.config.to_dict().items() if "%" not in str(value)}
        values["relative_attention_num_buckets_or_max_pos_seq_len"] = values.pop("relative_attention_num_buckets")
        values["tie_word_embeddings"] = model.config.tie_word_embeddings
        sections[section] = values | {"weight_data_type": weight_type}
    gated = model.config.feed_forward_proj.startswith("gated")
    structure = {"t5_with_bias": "false", "use_gated_activation": "1" if gated else "false"}
    out.close(sections | {"structure": structure | {"position_embedding_type": "relative"}})
