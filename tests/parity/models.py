"""Small random Hugging Face models of every variant that pyft reads, and the folders they are saved in.

transformers is the oracle: a variant is built from its own config class, given weights that make its output worth
comparing, saved with save_pretrained and loaded again from the folder, so that both sides read the same files.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

VOCAB = 199  # no multiple of any vector width
ROPE_THETA = 10000.0

_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 116,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


# What the configuration classes call those sizes where they differ; None: they have no such key.
_OWN_NAMES: dict[str, dict[str, str | None]] = {
    "GPT2Config": {
        "hidden_size": "n_embd",
        "intermediate_size": "n_inner",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_key_value_heads": None,
        "max_position_embeddings": "n_positions",
    },
    "GPTNeoXConfig": {"num_key_value_heads": None},
    "OPTConfig": {"intermediate_size": "ffn_dim", "num_key_value_heads": None},
    "BloomConfig": {
        "intermediate_size": None,
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_key_value_heads": None,
        "max_position_embeddings": None,
    },
}
_OWN_NAMES["GPTJConfig"] = _OWN_NAMES["GPT2Config"]


@dataclass(frozen=True)
class Variant:
    """A model class, what differs from the common sizes, and how its files differ from save_pretrained's."""

    model: str
    config: dict[str, Any] = field(default_factory=dict)
    old_rope_keys: bool = False  # config.json with rope_theta and rope_scaling, as before transformers 5
    strip: str = ""  # a prefix that the names of the tensors are saved without
    own_output: bool = False  # an output matrix that is not the embedding, though the class ties them


def _rope(kind: str, **values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": ROPE_THETA, **values}}


_LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 128}
_HALF_SLIDING = ["full_attention", "sliding_attention", "full_attention"]

DECODERS: dict[str, Variant] = {
    "llama-mha": Variant("LlamaForCausalLM", {"num_key_value_heads": 4}),
    "llama-gqa": Variant("LlamaForCausalLM"),
    "llama-mqa": Variant("LlamaForCausalLM", {"num_key_value_heads": 1}),
    "llama-tied": Variant("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama-biases": Variant("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": Variant("LlamaForCausalLM", {"head_dim": 24, "rms_norm_eps": 1e-3}),
    "llama-odd-sizes": Variant(
        "LlamaForCausalLM", {"hidden_size": 54, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 18}
    ),
    "llama-gelu": Variant("LlamaForCausalLM", {"hidden_act": "gelu"}),
    "llama-theta": Variant("LlamaForCausalLM", _rope("default") | {"rope_parameters": {"rope_theta": 1e6}}),
    "llama-linear": Variant("LlamaForCausalLM", _rope("linear", factor=2.5)),
    "llama-llama3": Variant("LlamaForCausalLM", _rope("llama3", **_LLAMA3)),
    "llama-yarn": Variant("LlamaForCausalLM", _rope("yarn", **_YARN)),
    "llama-yarn-attention-factor": Variant("LlamaForCausalLM", _rope("yarn", attention_factor=1.7, **_YARN)),
    "llama-yarn-betas": Variant("LlamaForCausalLM", _rope("yarn", beta_fast=8.0, beta_slow=2.0, **_YARN)),
    "llama-yarn-mscale": Variant("LlamaForCausalLM", _rope("yarn", mscale=1.0, mscale_all_dim=0.7, **_YARN)),
    "llama-yarn-untruncated": Variant("LlamaForCausalLM", _rope("yarn", truncate=False, **_YARN)),
    "llama-old-theta": Variant("LlamaForCausalLM", {"rope_parameters": {"rope_theta": 5e5}}, old_rope_keys=True),
    "llama-old-linear": Variant("LlamaForCausalLM", _rope("linear", factor=4.0), old_rope_keys=True),
    "llama-old-llama3": Variant("LlamaForCausalLM", _rope("llama3", **_LLAMA3), old_rope_keys=True),
    "llama-old-yarn": Variant("LlamaForCausalLM", _rope("yarn", **_YARN), old_rope_keys=True),
    "mistral": Variant("MistralForCausalLM", {"sliding_window": None}),
    "mistral-window": Variant("MistralForCausalLM", {"sliding_window": 7}),
    "qwen2": Variant("Qwen2ForCausalLM"),
    "qwen2-tied": Variant("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2-sliding": Variant(
        "Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 6, "layer_types": _HALF_SLIDING}
    ),
    "qwen2-max-window-layers": Variant(
        "Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    ),
    "qwen2-yarn": Variant("Qwen2ForCausalLM", _rope("yarn", **_YARN)),
    "qwen3": Variant("Qwen3ForCausalLM", {"head_dim": 32}),
    "qwen3-tied-biases": Variant(
        "Qwen3ForCausalLM", {"head_dim": 16, "tie_word_embeddings": True, "attention_bias": True}
    ),
    "qwen3-sliding": Variant(
        "Qwen3ForCausalLM",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 9, "layer_types": _HALF_SLIDING},
    ),
    "gemma2": Variant(
        "Gemma2ForCausalLM",
        {
            "head_dim": 24,
            "query_pre_attn_scalar": 20,
            "sliding_window": 6,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2-no-caps": Variant(
        "Gemma2ForCausalLM",
        {"head_dim": 16, "attn_logit_softcapping": None, "final_logit_softcapping": None, "sliding_window": 64},
    ),
    "gemma3": Variant(
        "Gemma3ForCausalLM",
        {
            "head_dim": 24,
            "query_pre_attn_scalar": 20,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            },
        },
    ),
}

_ROTARY_8 = {"rotary_dim": 8}
DECODERS |= {
    "gpt2": Variant("GPT2LMHeadModel"),
    "gpt2-default-inner": Variant("GPT2LMHeadModel", {"intermediate_size": None}),
    "gpt2-hub-names": Variant("GPT2LMHeadModel", strip="transformer."),  # as gpt2 itself is published
    "gpt2-untied": Variant("GPT2LMHeadModel", {"tie_word_embeddings": False}),
    "gpt2-inverse-layer": Variant("GPT2LMHeadModel", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2-unscaled": Variant("GPT2LMHeadModel", {"scale_attn_weights": False}),
    "gpt2-upcast": Variant(
        "GPT2LMHeadModel", {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}
    ),
    "gpt2-relu": Variant("GPT2LMHeadModel", {"activation_function": "relu"}),
    "gpt2-gelu": Variant("GPT2LMHeadModel", {"activation_function": "gelu", "layer_norm_epsilon": 1e-3}),
    "gpt2-silu": Variant("GPT2LMHeadModel", {"activation_function": "silu"}),
    "gpt2-tanh": Variant("GPT2LMHeadModel", {"activation_function": "tanh"}),
    "gpt2-odd-heads": Variant("GPT2LMHeadModel", {"hidden_size": 45, "num_attention_heads": 5}),
    "gptj": Variant("GPTJForCausalLM", _ROTARY_8),
    "gptj-all-rotary": Variant("GPTJForCausalLM", {"rotary_dim": 16, "intermediate_size": None}),
    "gptj-tied": Variant("GPTJForCausalLM", {"tie_word_embeddings": True, **_ROTARY_8}),
    "gptj-gelu": Variant("GPTJForCausalLM", {"activation_function": "gelu", "rotary_dim": 2}),
    "gptj-bare-names": Variant("GPTJForCausalLM", _ROTARY_8, strip="transformer."),
    "gpt-neox": Variant("GPTNeoXForCausalLM"),
    "gpt-neox-all-rotary": Variant("GPTNeoXForCausalLM", _rope("default", partial_rotary_factor=1.0)),
    "gpt-neox-sequential": Variant("GPTNeoXForCausalLM", {"use_parallel_residual": False}),
    "gpt-neox-no-biases": Variant("GPTNeoXForCausalLM", {"attention_bias": False, "hidden_act": "gelu_fast"}),
    "gpt-neox-tied": Variant("GPTNeoXForCausalLM", {"tie_word_embeddings": True}),
    "gpt-neox-linear": Variant("GPTNeoXForCausalLM", _rope("linear", factor=2.5, partial_rotary_factor=0.5)),
    "gpt-neox-old-keys": Variant(
        "GPTNeoXForCausalLM", {"rope_parameters": {"rope_theta": 2e4, "partial_rotary_factor": 0.5}}, old_rope_keys=True
    ),
    "opt": Variant("OPTForCausalLM"),
    "opt-350m": Variant("OPTForCausalLM", {"do_layer_norm_before": False, "word_embed_proj_dim": 40}),
    "opt-post-norm": Variant("OPTForCausalLM", {"do_layer_norm_before": False}),
    "opt-projections": Variant("OPTForCausalLM", {"word_embed_proj_dim": 96}),
    "opt-no-final-norm": Variant("OPTForCausalLM", {"_remove_final_layer_norm": True}),
    "opt-no-biases": Variant("OPTForCausalLM", {"enable_bias": False, "activation_function": "gelu"}),  # Galactica
    "opt-plain-norms": Variant("OPTForCausalLM", {"layer_norm_elementwise_affine": False}),
    "opt-untied": Variant("OPTForCausalLM", {"tie_word_embeddings": False}),
    "opt-bare-names": Variant("OPTForCausalLM", strip="model."),
    "bloom": Variant("BloomForCausalLM"),
    "bloom-6-heads": Variant("BloomForCausalLM", {"hidden_size": 72, "num_attention_heads": 6}),
    "bloom-11-heads": Variant("BloomForCausalLM", {"hidden_size": 77, "num_attention_heads": 11}),
    "bloom-1-head": Variant("BloomForCausalLM", {"hidden_size": 32, "num_attention_heads": 1}),
    "bloom-normed-residual": Variant("BloomForCausalLM", {"apply_residual_connection_post_layernorm": True}),
    "bloom-untied": Variant("BloomForCausalLM", {"tie_word_embeddings": False}),
    "bloom-published-keys": Variant("BloomForCausalLM", {"pretraining_tp": 4, "slow_but_exact": False}),
    "bloom-bare-names": Variant("BloomForCausalLM", strip="transformer."),
}

# One of each attention and position scheme: for the grids that multiply.
DECODERS_SHORT = ["llama-gqa", "llama-yarn", "mistral-window", "qwen2-sliding", "qwen3", "gemma2", "gemma3"]
DECODERS_SHORT += ["gpt2", "gptj", "gpt-neox", "opt-350m", "bloom-6-heads"]

# Saved without a head.
BASES: dict[str, Variant] = {
    "llama-base": Variant("LlamaModel"),
    "gpt2-base": Variant("GPT2Model"),
    "gptj-base": Variant("GPTJModel", _ROTARY_8),
    "gpt-neox-base": Variant("GPTNeoXModel"),
    "opt-base": Variant("OPTModel"),
    "opt-350m-base": Variant("OPTModel", {"do_layer_norm_before": False, "word_embed_proj_dim": 40}),
    "bloom-base": Variant("BloomModel"),
}

_BERT = {"num_key_value_heads": None, "max_position_embeddings": 160, "pad_token_id": 0}
_LABELS = {"num_labels": 5}
_DISTIL = {
    "vocab_size": VOCAB,
    "dim": 64,
    "hidden_dim": 116,
    "n_layers": 3,
    "n_heads": 4,
    "max_position_embeddings": 160,
    "pad_token_id": 0,
}

ENCODERS: dict[str, Variant] = {
    "bert": Variant("BertModel", {"type_vocab_size": 2}),
    "bert-no-pooler": Variant("BertModel", {"add_pooling_layer": False}),
    "bert-relu": Variant("BertModel", {"hidden_act": "relu", "layer_norm_eps": 1e-3}),
    "bert-gelu-new": Variant("BertModel", {"hidden_act": "gelu_new"}),
    "bert-sequence": Variant("BertForSequenceClassification", _LABELS),
    "bert-token": Variant("BertForTokenClassification", _LABELS),
    "bert-mlm": Variant("BertForMaskedLM"),
    "roberta": Variant("RobertaModel", {"pad_token_id": 1, "type_vocab_size": 1}),
    "roberta-no-pooler": Variant("RobertaModel", {"pad_token_id": 1, "type_vocab_size": 1, "add_pooling_layer": False}),
    "roberta-sequence": Variant(
        "RobertaForSequenceClassification", {"pad_token_id": 1, "type_vocab_size": 1, **_LABELS}
    ),
    "roberta-token": Variant("RobertaForTokenClassification", {"pad_token_id": 1, "type_vocab_size": 1, **_LABELS}),
    "roberta-mlm": Variant("RobertaForMaskedLM", {"pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": Variant("DistilBertModel"),
    "distilbert-sequence": Variant("DistilBertForSequenceClassification", _LABELS),
    "distilbert-token": Variant("DistilBertForTokenClassification", _LABELS),
    "distilbert-mlm": Variant("DistilBertForMaskedLM"),
}

_T5 = {
    "vocab_size": VOCAB,
    "d_model": 64,
    "d_kv": 24,  # no d_model / num_heads
    "d_ff": 116,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 50,
    "decoder_start_token_id": 0,
    "eos_token_id": None,
}
_BART = {
    "vocab_size": VOCAB,
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 100,
    "decoder_ffn_dim": 116,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": None,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
}

ENCODER_DECODERS: dict[str, Variant] = {
    "t5": Variant("T5ForConditionalGeneration"),
    "t5-default-buckets": Variant(
        "T5ForConditionalGeneration",
        {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-3},
    ),
    "t5-v1_1": Variant("T5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5-own-output": Variant(
        "T5ForConditionalGeneration",
        {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        own_output=True,
    ),
    "ul2": Variant("T5ForConditionalGeneration", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False}),
    "t5-gelu": Variant("T5ForConditionalGeneration", {"feed_forward_proj": "gelu"}),
    "mt5": Variant("MT5ForConditionalGeneration", {"feed_forward_proj": "gated-gelu"}),
    "t5-bare": Variant("T5Model"),
    "bart": Variant("BartForConditionalGeneration"),
    "bart-untied": Variant("BartForConditionalGeneration", {"tie_word_embeddings": False, "scale_embedding": True}),
    "bart-relu": Variant("BartForConditionalGeneration", {"activation_function": "relu", "scale_embedding": True}),
    "bart-bare": Variant("BartModel"),
    "mbart": Variant("MBartForConditionalGeneration", {"scale_embedding": True}),
    "marian": Variant("MarianMTModel", {"activation_function": "swish", "scale_embedding": True}),
    "marian-two-vocabularies": Variant(
        "MarianMTModel", {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 150}
    ),
}

# Those with an output.
GENERATORS = [name for name in ENCODER_DECODERS if not name.endswith("-bare")]

# One of each way in which answers are made: for the grids that multiply.
ENCODER_DECODERS_SHORT = ["t5", "ul2", "bart", "mbart", "marian-two-vocabularies"]

# The encoders of encoder-decoders, saved alone.
_HALVES = {"t5-encoder": Variant("T5EncoderModel"), "mt5-encoder": Variant("MT5EncoderModel", {"num_heads": 3})}

VARIANTS = DECODERS | BASES | ENCODERS | ENCODER_DECODERS | _HALVES


def config_of(variant: Variant, **overrides: Any) -> transformers.PreTrainedConfig:
    """The variant's configuration object."""
    model_class = getattr(transformers, variant.model)
    own = {**variant.config, **overrides}
    own.pop("add_pooling_layer", None)
    if model_class.config_class is transformers.DistilBertConfig:
        return transformers.DistilBertConfig(**{**_DISTIL, **own})
    if issubclass(model_class.config_class, (transformers.T5Config, transformers.MT5Config)):
        return model_class.config_class(**{**_T5, **own})
    if issubclass(
        model_class.config_class, (transformers.BartConfig, transformers.MBartConfig, transformers.MarianConfig)
    ):
        return model_class.config_class(**{**_BART, **own})
    sizes = dict(_SIZES)
    if issubclass(model_class.config_class, (transformers.BertConfig, transformers.RobertaConfig)):
        sizes.update(_BERT)
        del sizes["num_key_value_heads"]
    names = _OWN_NAMES.get(model_class.config_class.__name__, {})
    keys = {names.get(key, key): value for key, value in {**sizes, **own}.items()}
    return model_class.config_class(**{key: value for key, value in keys.items() if key is not None})


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Draws weights under which every part matters: attention is neither flat nor one-hot, the layers outweigh the
    embedding in the residual, biases and norms are not neutral, and no logit dominates."""
    generator = torch.Generator().manual_seed(seed)
    offset_norm = "Gemma" in type(model).__name__  # (1 + weight) * x
    transposed = {
        f"{name}.weight" for name, m in model.named_modules() if isinstance(m, transformers.pytorch_utils.Conv1D)
    }

    def normal(shape: torch.Size, scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ("norm" in name.lower() or ".ln_" in f".{name}") and name.endswith("weight"):
                weight.copy_(normal(weight.shape, 0.2) + (0.0 if offset_norm else 1.0))
            elif weight.ndim == 1:
                weight.copy_(normal(weight.shape, 0.2))
            elif name.endswith(".q.weight"):  # T5's attention has no scale
                weight.copy_(normal(weight.shape, 1.3 * (weight.shape[1] * model.config.d_kv) ** -0.5))
            elif name.endswith("relative_attention_bias.weight"):
                weight.copy_(normal(weight.shape, 1.0))
            elif "embed" in name.lower() or name.endswith(("wte.weight", "wpe.weight")):
                weight.copy_(normal(weight.shape, 2.4 * weight.shape[1] ** -0.5))
            else:
                inputs = weight.shape[0 if name in transposed else 1]
                weight.copy_(normal(weight.shape, 1.3 * inputs**-0.5))
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.copy_(normal(buffer.shape, 0.5))


def build(variant: Variant, seed: int, **overrides: Any) -> transformers.PreTrainedModel:
    """A model of the variant with drawn weights, float32."""
    config = config_of(variant, **overrides)
    model_class = getattr(transformers, variant.model)
    extra = {"add_pooling_layer": False} if variant.config.get("add_pooling_layer") is False else {}
    model = model_class(config, **extra).eval()
    if variant.own_output:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    randomise(model, seed)
    return model


def use_old_rope_keys(folder: Path) -> None:
    """Rewrites config.json as transformers 4 wrote it: rope_theta beside rope_scaling."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    if config["model_type"] == "gpt_neox":
        config["rotary_pct"] = rope.pop("partial_rotary_factor")
        config["rotary_emb_base"] = rope.pop("rope_theta")
    else:
        config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.40.0"
    path.write_text(json.dumps(config, indent=2))


def strip_names(folder: Path, prefix: str) -> None:
    """Saves the tensors again, without the prefix."""
    path = folder / "model.safetensors"
    save_file({name.removeprefix(prefix): t for name, t in load_file(path).items()}, path, {"format": "pt"})


def save(
    variant: Variant,
    folder: Path,
    seed: int,
    dtype: torch.dtype = torch.float32,
    shard_size: str | None = None,
    **overrides: Any,
) -> Path:
    """Builds the variant and saves it as a Hugging Face folder, in one safetensors file or in shards."""
    model = build(variant, seed, **overrides).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard_size or "5GB")
    if variant.old_rope_keys:
        use_old_rope_keys(folder)
    if variant.strip:
        strip_names(folder, variant.strip)
    return folder


def oracle(variant: Variant, folder: Path) -> transformers.PreTrainedModel:
    """transformers' own reading of the folder, computed in float32 whatever dtype the file stores."""
    model_class = getattr(transformers, variant.model)
    extra = {"add_pooling_layer": False} if variant.config.get("add_pooling_layer") is False else {}
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **extra)
    return model.eval()


@functools.cache
def _quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


_quiet()
