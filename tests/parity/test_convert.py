"""pyft convert: whatever is converted, split, split again and joined answers to the bit as its source does."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import pyft
from pyft._checkpoint import Checkpoint

from . import gguf_files, models
from .compare import assert_close
from .conftest import seed_of
from .pair import draw_prompt

OUTPUTS = ("logits", "last_hidden_state", "pooler_output", "encoder_last_hidden_state")


def outputs(source: Path, ids: list[int], **options: str) -> dict[str, bytes]:
    """Every output of a forward pass, as bytes."""
    model = pyft.load(source, device="cpu", threads=1, kv_cache_bytes=1 << 20, **options)
    inputs = (
        {"decoder_input_ids": [[i % model.config.vocab_size for i in ids[::-1]]]}
        if model.config.get("is_encoder_decoder")
        else {}
    )
    found = model.forward([ids], **inputs)
    present = {name: getattr(found, name, None) for name in OUTPUTS}
    assert any(value is not None for value in present.values())
    return {name: value.numpy().tobytes() for name, value in present.items() if value is not None}


def stored(folder: Path) -> dict[str, list[bytes]]:
    """Each tensor's pieces, by rank."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                found.setdefault(name, []).append(file.get_tensor(name).tobytes())
    return found


def most_ranks(config: dict) -> int:
    heads = [config[key] for key in ("num_heads", "num_kv_heads", "num_encoder_heads") if config.get(key)]
    return max(n for n in (1, 2, 4) if all(h % n == 0 for h in heads))


@pytest.mark.parametrize("name", models.VARIANTS)
def test_round_trip(tiny, rng, tmp_path, name):
    source = tiny(name).folder
    ids = draw_prompt(rng, models.VOCAB, 12, 30)
    expected = outputs(source, ids)
    config = Checkpoint(source).config()
    ranks, stages = most_ranks(config), min(config["num_layers"], int(rng.integers(1, 4)))
    pyft.convert(source, tmp_path / "whole")
    assert {path.name for path in (tmp_path / "whole").glob("*.safetensors")} == {"weights.safetensors"}
    assert Checkpoint(tmp_path / "whole").config() == config
    pyft.convert(tmp_path / "whole", tmp_path / "split", tensor_parallel=ranks, pipeline_parallel=stages)
    pyft.convert(source, tmp_path / "at once", tensor_parallel=ranks, pipeline_parallel=stages)
    pyft.convert(tmp_path / "split", tmp_path / "again", tensor_parallel=max(1, ranks // 2), pipeline_parallel=2)
    pyft.convert(tmp_path / "again", tmp_path / "joined")
    for folder in ("whole", "split", "again", "joined"):
        assert outputs(tmp_path / folder, ids) == expected, folder
    assert stored(tmp_path / "joined") == stored(tmp_path / "whole")
    assert stored(tmp_path / "split") == stored(tmp_path / "at once")


@pytest.mark.parametrize("name", ["llama-gqa", "llama-tied", "qwen2", "bert"])
def test_every_tensor_is_the_sources(tiny, tmp_path, name):
    """These families store each weight as libft does: the same bytes must be in both, however often."""
    source = tiny(name).folder
    used = {tensor["name"] for tensor in Checkpoint(source).tensors() if tensor["usage"] == "used"}
    theirs = Counter(pieces[0] for key, pieces in stored(source).items() if key in used)
    pyft.convert(source, tmp_path / "whole")
    assert Counter(pieces[0] for pieces in stored(tmp_path / "whole").values()) == theirs


def test_a_rank_has_its_share(tiny, tmp_path):
    """The files of a rank and stage hold what they should, and the pieces make up the whole."""
    source = tiny("llama-gqa", vocab_size=200).folder
    pyft.convert(source, tmp_path / "whole")
    pyft.convert(source, tmp_path / "split", tensor_parallel=2, pipeline_parallel=3)
    names = {path.name for path in (tmp_path / "split").iterdir()}
    expected = {"manifest.json", "weights.safetensors"} | {f"weights.rank-{r}.safetensors" for r in range(2)}
    expected |= {f"weights.stage-{s}.safetensors" for s in range(3)}
    expected |= {f"weights.stage-{s}.rank-{r}.safetensors" for s in range(3) for r in range(2)}
    assert names - {"generation_config.json"} == expected
    manifest = json.loads((tmp_path / "split" / "manifest.json").read_text())
    assert {file["name"] for file in manifest["files"]} == expected - {"manifest.json"}

    def load(name: str) -> dict[str, np.ndarray]:
        with safe_open(tmp_path / name, "np") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    whole = load("whole/weights.safetensors")
    for stage in range(3):
        ranks = [load(f"split/weights.stage-{stage}.rank-{r}.safetensors") for r in range(2)]
        assert all(f"layers.{stage}." in key for rank in ranks for key in rank)
        for key, weight in whole.items():
            if f"layers.{stage}." not in key or "norm" in key:
                continue
            axis = 1 if key.endswith(("attention.output.weight", "feed_forward.down.weight")) else 0
            assert manifest["weights"][key]["shard"] == ("row" if axis else "column")
            np.testing.assert_array_equal(np.concatenate([rank[key] for rank in ranks], axis), weight)
    embeddings = [load(f"split/weights.rank-{r}.safetensors")["embedding.weight"] for r in range(2)]
    np.testing.assert_array_equal(np.concatenate(embeddings), whole["embedding.weight"])


@pytest.mark.parametrize("kind", gguf_files.BLOCK_TYPES)
def test_blocks_stay_bit_for_bit(tmp_path, rng, kind):
    source = tmp_path / "model.gguf"
    gguf_files.write("llama", source, seed_of(kind), kind)
    ids = draw_prompt(rng, models.VOCAB, 12, 30)
    pyft.convert(source, tmp_path / "whole")
    assert outputs(tmp_path / "whole", ids) == outputs(source, ids)
    assert pyft.load(tmp_path / "whole").dtype == pyft.load(source).dtype
    ranks = 1 if kind.endswith("K") else 2  # 256 inputs are one block of a K type
    pyft.convert(source, tmp_path / "split", tensor_parallel=ranks, pipeline_parallel=2)
    assert outputs(tmp_path / "split", ids) == outputs(source, ids)
    if ranks == 1:
        with pytest.raises(ValueError, match=r"would cut the blocks of .*give a dtype"):
            pyft.convert(source, tmp_path / "cut", tensor_parallel=2)
    pyft.convert(source, tmp_path / "float32", "float32", tensor_parallel=2)
    assert outputs(tmp_path / "float32", ids) == outputs(source, ids, dtype="float32")


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "bert"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_rounds_once(tiny, rng, tmp_path, name, dtype):
    """A converted model computes as transformers does on weights that torch has rounded."""
    import torch

    pair = tiny(name)
    pyft.convert(pair.folder, tmp_path / "half", dtype)
    assert Checkpoint(tmp_path / "half").config()["checkpoint_dtype"] == dtype
    oracle = models.oracle(models.VARIANTS[name], pair.folder)
    for parameter in oracle.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype)).float()
    ids = draw_prompt(rng, models.VOCAB, 12, 30)
    reference = type(pair)(None, tmp_path / "half", oracle).hf_forward(ids)
    ours = pyft.load(tmp_path / "half", device="cpu", dtype="float32").forward([ids])
    for output, expected in reference.items():
        assert_close(getattr(ours, output).numpy()[0], expected, f"{name} {output} in {dtype}")
