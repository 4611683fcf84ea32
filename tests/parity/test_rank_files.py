"""Checkpoints saved by ranks, FasterTransformer's and Megatron-LM's, against the models that they were written from."""

import numpy as np
import pytest
import torch

import pyft
from pyft._checkpoint import Checkpoint

from . import faster_transformer_files as ft_files
from . import megatron_files, models
from .compare import assert_close
from .conftest import seed_of
from .pair import Pair, draw_prompt

# FasterTransformer's GELU is the tanh approximation, and its folders do not say what the model had.
GPT = {
    "gpt2": ("gpt2", {}, ft_files.write_gpt2),
    "opt": ("opt", {}, ft_files.write_opt),
    "opt-350m": ("opt-350m", {}, ft_files.write_opt),
    "bloom": ("bloom", {}, ft_files.write_bloom),
    "gptj": ("gptj", {}, ft_files.write_gptj),
    "gpt-neox": ("gpt-neox", {"hidden_act": "gelu_fast"}, ft_files.write_gpt_neox),
    "gpt-neox-sequential": ("gpt-neox-sequential", {"hidden_act": "gelu_new"}, ft_files.write_gpt_neox),
}


def compare(model, folder, rng, what):
    """Logits and hidden states of a prompt against transformers', from a folder in float32."""
    reference = Pair(None, folder, model).hf_forward(ids := draw_prompt(rng, models.VOCAB, 12, 40))
    ours = pyft.load(folder, device="cpu", dtype="float32", threads=1, kv_cache_bytes=1 << 20).forward([ids])
    for output, expected in reference.items():
        if output == "last_hidden_state" and expected.shape[-1] != ours.last_hidden_state.shape[-1]:
            continue  # OPT-350m's files hold its output projection multiplied into the head
        found = getattr(ours, output).numpy()[0]
        assert_close(found, expected, f"{what} {output}")


def rounded(model, weight_type):
    """The model with the weights that its files hold."""
    if weight_type == "fp16":
        for parameter in model.parameters():
            parameter.data = parameter.data.half().float()
    return model


@pytest.mark.parametrize("weight_type", ["fp32", "fp16"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", GPT)
def test_faster_transformer_gpt(tmp_path, rng, name, ranks, weight_type):
    variant, config, write = GPT[name]
    if name == "opt-350m" and weight_type == "fp16":
        pytest.skip("the files hold products of weights, rounded after the product")
    model = rounded(models.build(models.VARIANTS[variant], seed_of(name), **config), weight_type)
    folder = tmp_path / f"{ranks}-gpu"
    write(model, folder, ranks, weight_type)
    checkpoint = Checkpoint(folder)
    assert checkpoint.format == "faster_transformer"
    assert checkpoint.config()["bos_token_id"] == 1
    assert checkpoint.config()["stop_token_ids"] == [2]
    assert not [tensor["name"] for tensor in checkpoint.tensors() if tensor["usage"] == "missing"]
    compare(model, folder, rng, f"{name} {weight_type} of {ranks}")


@pytest.mark.parametrize("weight_type", ["fp32", "fp16"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_faster_transformer_bert(tmp_path, rng, ranks, weight_type):
    model = rounded(models.build(models.VARIANTS["bert"], seed_of("bert", ranks)), weight_type)
    ft_files.write_bert(model, tmp_path / "n-gpu", ranks, weight_type)
    assert Checkpoint(tmp_path / "n-gpu").format == "faster_transformer"
    compare(model, tmp_path / "n-gpu", rng, f"bert {weight_type} of {ranks}")
    (tmp_path / "n-gpu" / "model.safetensors").unlink()
    with pytest.raises(pyft.CheckpointError, match=r"writes BERT's layers without embeddings; put the original"):
        pyft.load(tmp_path / "n-gpu")


@pytest.mark.parametrize("weight_type", ["fp32", "fp16"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("name", ["t5", "t5-v1_1"])
def test_faster_transformer_t5(tmp_path, rng, name, ranks, weight_type):
    model = rounded(models.build(models.VARIANTS[name], seed_of(name, ranks)), weight_type)
    ft_files.write_t5(model, tmp_path / "n-gpu", ranks, weight_type)
    ids, answer = draw_prompt(rng, models.VOCAB, 12, 40), draw_prompt(rng, models.VOCAB, 5, 12)
    with torch.no_grad():
        expected = model(torch.tensor([ids]), decoder_input_ids=torch.tensor([answer])).logits[0].numpy()
    ours = pyft.load(tmp_path / "n-gpu", device="cpu", dtype="float32", threads=1, kv_cache_bytes=1 << 20)
    found = ours.forward([ids], decoder_input_ids=[answer]).logits.numpy()[0]
    assert_close(found, expected, f"{name} {weight_type} of {ranks}")


def test_faster_transformer_files_that_are_short_or_missing(tmp_path):
    model = models.build(models.VARIANTS["gpt2"], seed_of("short"))
    ft_files.write_gpt2(model, tmp_path / "2-gpu", 2, "fp16")
    path = tmp_path / "2-gpu" / "model.layers.1.mlp.dense_h_to_4h.weight.1.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    message = f"dense_h_to_4h.weight.1 has {len(whole) - 2} bytes, expected {len(whole)} .*{path}"
    with pytest.raises(pyft.CheckpointError, match=message):
        pyft.load(tmp_path / "2-gpu")
    path.write_bytes(whole[:-1])
    with pytest.raises(pyft.CheckpointError, match="no whole number of float16"):
        pyft.load(tmp_path / "2-gpu")
    path.unlink()
    with pytest.raises(pyft.CheckpointError, match=r"model.layers.1.mlp.dense_h_to_4h.weight.1 .* is missing"):
        pyft.load(tmp_path / "2-gpu")


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize(("ranks", "stages"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 2)])
def test_megatron(tmp_path, rng, ranks, stages, version):
    sizes = {"num_hidden_layers": 4, "vocab_size": 208}  # padded for every number of ranks
    sizes |= {"activation_function": ["gelu", "gelu_new"][int(rng.integers(2))]}
    model = models.build(models.VARIANTS["gpt2"], seed_of("megatron", ranks, stages, version), **sizes)
    megatron_files.write(model, tmp_path, ranks, stages, version)
    assert Checkpoint(tmp_path).format == "megatron"
    compare(model, tmp_path, rng, f"version {version} of {ranks} x {stages}")
    pyft.convert(tmp_path, tmp_path / "converted", tensor_parallel=2, pipeline_parallel=2)
    compare(model, tmp_path / "converted", rng, "converted")


@pytest.mark.parametrize("name", ["llama-gqa", "llama-tied", "bert"])
def test_torch_files(tiny, tmp_path, rng, name):
    """pytorch_model.bin, whole and in shards, where there is no safetensors file; with strides and shared storages."""
    pair = tiny(name)
    (tmp_path / "config.json").write_text((pair.folder / "config.json").read_text())
    weights = {key: t.detach() for key, t in models.oracle(models.VARIANTS[name], pair.folder).state_dict().items()}
    transposed = {key: t.T.contiguous().T if t.dim() == 2 else t for key, t in weights.items()}
    assert any(not t.is_contiguous() for t in transposed.values())
    together = torch.cat([t.reshape(-1) for t in weights.values()])
    parts = together.split([t.numel() for t in weights.values()])
    shared = {key: part.view(t.shape) for (key, t), part in zip(weights.items(), parts, strict=True)}
    ids = draw_prompt(rng, models.VOCAB, 12, 40)
    expected = pair.load(dtype="float32").forward([ids]).last_hidden_state.numpy()
    for state in (weights, transposed, shared):
        torch.save(state, tmp_path / "pytorch_model.bin")
        np.testing.assert_array_equal(pyft.load(tmp_path).forward([ids]).last_hidden_state.numpy(), expected)
