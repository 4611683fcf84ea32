"""One checkpoint open in pyft and in transformers, asked the same questions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import pyft

from . import models
from .compare import DEVICE

Ids = Sequence[int]


@dataclass
class Greedy:
    """transformers' continuation of one prompt."""

    tokens: list[int]
    scores: np.ndarray  # [steps, vocab_size], after the processors
    logits: np.ndarray  # [steps, vocab_size], before them


class Pair:
    """The oracle computes in float32 on the weights as the files store them."""

    def __init__(self, variant: models.Variant | None, folder: Path, hf: transformers.PreTrainedModel | None = None):
        self.variant = variant
        self.folder = folder
        self._hf = hf

    @functools.cached_property
    def hf(self) -> transformers.PreTrainedModel:
        if self._hf is not None:
            return self._hf
        assert self.variant is not None
        return models.oracle(self.variant, self.folder)

    @functools.cached_property
    def ft(self) -> Any:
        return pyft.load(str(self.folder), device=DEVICE)

    def close(self) -> None:
        """Gives pyft's memory back; it opens the folder again when it is asked again."""
        if model := self.__dict__.pop("ft", None):
            model.close()

    def load(self, **options: Any) -> Any:
        """Another pyft model of the same folder."""
        return pyft.load(str(self.folder), device=DEVICE, **options)

    @torch.no_grad()
    def hf_forward(self, ids: Ids, **inputs: Any) -> dict[str, np.ndarray]:
        """One row alone: last_hidden_state [seq, hidden], logits and pooler_output as the model has them."""
        rows = torch.tensor([list(ids)])
        extra = {name: torch.tensor([list(values)]) for name, values in inputs.items()}
        out = self.hf(rows, output_hidden_states=True, **extra)
        found: dict[str, np.ndarray] = {}
        if getattr(out, "logits", None) is not None:
            found["logits"] = out.logits[0].numpy()
        if getattr(out, "pooler_output", None) is not None:
            found["pooler_output"] = out.pooler_output[0].numpy()
        hidden = getattr(out, "last_hidden_state", None)
        found["last_hidden_state"] = (hidden if hidden is not None else out.hidden_states[-1])[0].numpy()
        return found

    def start_of(self, prompt: Ids, decoder_input_ids: torch.Tensor | None = None) -> int:
        """How many tokens stand before the new ones in what transformers' generate returns."""
        if not self.hf.config.is_encoder_decoder:
            return len(prompt)
        if decoder_input_ids is None:
            return 1
        return decoder_input_ids.shape[1] + int(decoder_input_ids[0, 0] != self.hf.config.decoder_start_token_id)

    def hf_greedy(self, prompt: Ids, max_new_tokens: int, **settings: Any) -> Greedy:
        """transformers' greedy generate on one prompt; settings override the checkpoint's generation config."""
        settings.setdefault("eos_token_id", None)
        settings.setdefault("pad_token_id", 0)
        out = self.hf.generate(
            torch.tensor([list(prompt)]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **settings,
        )
        return Greedy(
            out.sequences[0, self.start_of(prompt, settings.get("decoder_input_ids")) :].tolist(),
            torch.stack(out.scores)[:, 0].float().numpy(),
            torch.stack(out.logits)[:, 0].float().numpy(),
        )


def draw_prompt(rng: np.random.Generator, vocab_size: int, low: int = 1, high: int = 40) -> list[int]:
    """Token ids from 3 on (below lie padding tokens), `low` to `high` of them."""
    return rng.integers(3, vocab_size, rng.integers(low, high + 1)).tolist()
