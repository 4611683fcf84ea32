"""Shapes with random weights: they are the models they are named after, and repeat by their seed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel

import pyft
from pyft.presets import PRESETS, Preset, write_checkpoint


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("smollm2-135m", 134_515_008),
        ("llama-1b", 1_235_814_400),
        ("llama-3b", 3_212_749_824),
        ("llama-8b", 8_030_261_248),
        ("gpt2", 124_439_808),
        ("gpt2-xl", 1_557_611_200),
        ("gptj-6b", 6_050_882_784),
        ("gpt-neox-20b", 20_554_567_680),
        ("opt-125m", 125_239_296),
        ("bloom-560m", 559_214_592),
        ("t5-3b", 2_851_598_336),
        ("bert-base", 109_482_240),
        ("bert-large", 335_141_888),
        ("minilm-l6", 22_713_216),
        ("minilm-l12", 33_360_000),
    ],
)
def test_parameter_counts(name: str, parameters: int) -> None:
    """As published, or as transformers counts them."""
    assert sum(math.prod(shape) for _, shape in PRESETS[name].tensors()) == parameters


def small(name: str) -> Preset:
    """The preset with few and narrow layers."""
    preset = PRESETS[name]
    changes = {"vocab_size": 300, "intermediate_size": 64, "ffn_dim": 64}
    changes |= {"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 3}
    changes |= {"n_layer": 2, "n_embd": 96, "n_head": 6, "rotary_dim": 8}
    known = {key: value for key, value in changes.items() if key in preset.config}
    return Preset({**preset.config, **known}, preset.dtype)


@pytest.mark.parametrize(
    "name", ["llama-8b", "bert-base", "smollm2-135m", "gpt2", "gptj-6b", "gpt-neox-20b", "opt-125m", "bloom-560m"]
)
def test_transformers_reads_them_alike(name: str, tmp_path: Path) -> None:
    write_checkpoint(small(name), tmp_path)
    ids = np.random.default_rng(0).integers(0, 300, (2, 9))
    model = pyft.load(tmp_path, dtype="float32", threads=1)
    ours = model.forward(ids, outputs="last_hidden_state").last_hidden_state.numpy()
    import torch

    theirs, told = AutoModel.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    assert not told["missing_keys"]
    expected = theirs(torch.tensor(ids)).last_hidden_state.detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
    assert np.abs(expected).max() > 0.1


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_checkpoint(small("bert-base"), tmp_path / folder, seed)
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in "abc"]
    assert files[0] == files[1] != files[2]
    assert json.loads((tmp_path / "a" / "config.json").read_text())["model_type"] == "bert"
