"""Megatron-LM's checkpoints of a small GPT-2: model_optim_rng.pt files for tensor- and pipeline-parallel ranks."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import transformers


def _fused(parts: list[torch.Tensor], heads: int, version: int) -> torch.Tensor:
    """A rank's query, key and value, [heads * width, ...] each, in the order of the version."""
    shape = parts[0].shape
    stacked = torch.stack([part.reshape(heads, -1, *shape[1:]) for part in parts])  # [3, heads, width, ...]
    if version == 1:
        stacked = stacked.permute(1, 2, 0, *range(3, stacked.dim()))  # [heads, width, 3, ...]
    elif version >= 2:
        stacked = stacked.transpose(0, 1)  # [heads, 3, width, ...]
    return stacked.reshape(3 * shape[0], *shape[1:]).contiguous()


class Writer:
    def __init__(self, model: transformers.PreTrainedModel, ranks: int, stages: int, version: int) -> None:
        self.w = {name.removeprefix("transformer."): t.detach() for name, t in model.state_dict().items()}
        self.c, self.ranks, self.stages, self.version = model.config, ranks, stages, version

    def cut(self, values: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
        return values.chunk(self.ranks, axis)[rank].clone()

    def layer(self, index: int, rank: int) -> dict[str, torch.Tensor]:
        w = {name.removeprefix(f"h.{index}."): t for name, t in self.w.items() if name.startswith(f"h.{index}.")}
        attention = "self_attention" if self.version >= 2 else "attention"
        found = {}
        for kind in ("weight", "bias"):
            found[f"input_layernorm.{kind}"] = w[f"ln_1.{kind}"]
            found[f"post_attention_layernorm.{kind}"] = w[f"ln_2.{kind}"]
            parts = [
                self.cut(part.T if part.dim() == 2 else part, 0, rank) for part in w[f"attn.c_attn.{kind}"].chunk(3, -1)
            ]
            fused = _fused(parts, self.c.n_head // self.ranks, self.version)
            found[f"{attention}.query_key_value.{kind}"] = fused
            found[f"mlp.dense_h_to_4h.{kind}"] = self.cut(w[f"mlp.c_fc.{kind}"], -1, rank).t().contiguous()
        found[f"{attention}.dense.weight"] = self.cut(w["attn.c_proj.weight"].T, 1, rank)
        found[f"{attention}.dense.bias"] = w["attn.c_proj.bias"]
        found["mlp.dense_4h_to_h.weight"] = self.cut(w["mlp.c_proj.weight"].T, 1, rank)
        found["mlp.dense_4h_to_h.bias"] = w["mlp.c_proj.bias"]
        return found

    def model(self, rank: int, stage: int) -> dict[str, Any]:
        per_stage = self.c.n_layer // self.stages
        stack = {}
        for i in range(per_stage):
            stack |= {f"layers.{i}.{name}": t for name, t in self.layer(stage * per_stage + i, rank).items()}
        words = self.cut(self.w["wte.weight"], 0, rank)
        language_model: dict[str, Any] = {}
        made: dict[str, Any] = {"language_model": language_model}
        if stage == 0:
            language_model["embedding"] = {
                "word_embeddings": {"weight": words},
                "position_embeddings": {"weight": self.w["wpe.weight"]},
            }
        elif stage == self.stages - 1:
            made["word_embeddings_for_head"] = {"weight": words}
        if stage == self.stages - 1:
            stack |= {f"final_layernorm.{kind}": self.w[f"ln_f.{kind}"] for kind in ("weight", "bias")}
        language_model["encoder" if self.version >= 2 else "transformer"] = stack
        return made

    def arguments(self) -> Namespace:
        return Namespace(
            num_layers=self.c.n_layer,
            hidden_size=self.c.n_embd,
            num_attention_heads=self.c.n_head,
            ffn_hidden_size=self.c.n_inner or 4 * self.c.n_embd,
            max_position_embeddings=self.c.n_positions,
            padded_vocab_size=self.c.vocab_size,
            layernorm_epsilon=self.c.layer_norm_epsilon,
            tensor_model_parallel_size=self.ranks,
            pipeline_model_parallel_size=self.stages,
            openai_gelu=self.c.activation_function == "gelu_new",
            bias_gelu_fusion=False,
            params_dtype=torch.float32,
            rank=0,
        )


def write(model: transformers.PreTrainedModel, path: Path, ranks: int, stages: int, version: int) -> None:
    writer = Writer(model, ranks, stages, version)
    for rank in range(ranks):
        for stage in range(stages):
            name = f"mp_rank_{rank:02d}" + (f"_{stage:03d}" if stages > 1 else "")
            folder = path / "iter_0001000" / name
            folder.mkdir(parents=True)
            saved = {"iteration": 1000, "model": writer.model(rank, stage), "rng_state": [torch.zeros(4).byte()]}
            saved["optimizer"] = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}
            if version:
                saved |= {"args": writer.arguments(), "checkpoint_version": float(version)}
            torch.save(saved, folder / "model_optim_rng.pt")
    (path / "latest_checkpointed_iteration.txt").write_text("1000")
    if not version:  # whose arguments were not saved
        model.config.save_pretrained(path)
