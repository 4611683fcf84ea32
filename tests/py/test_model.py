"""Loading, configuration, placement, closing, lifetimes, fork, and errors of loading."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY_LLAMA, write_llama

import pyft
from pyft.inspection import inspect


def test_config_is_a_mapping_and_has_attributes(llama: pyft.Model) -> None:
    config = llama.config
    assert config.hidden_size == config["hidden_size"] == TINY_LLAMA["hidden_size"]
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (2, 4, 2)
    assert (config.head_dim, config.vocab_size, config.max_positions) == (16, 512, 256)
    assert config.architecture
    assert dict(config) == {key: config[key] for key in config}
    assert "hidden_size" in config
    assert "nothing" not in config
    assert "hidden_size" in dir(config)
    with pytest.raises(AttributeError, match="hidden_size"):
        _ = config.nothing
    with pytest.raises(KeyError):
        config["nothing"]


def test_placement(llama: pyft.Model) -> None:
    assert llama.device == "cpu"
    assert llama.dtype == "float32"
    assert llama.weight_bytes > 0
    assert llama.generates
    assert "float32" in repr(llama)


def test_encoder_does_not_generate(bert: pyft.Model) -> None:
    assert not bert.generates
    with pytest.raises(pyft.UnsupportedError):
        bert.generate("the river", max_new_tokens=1)


def test_load_from_string_and_with_settings(llama_folder: Path) -> None:
    model = pyft.load(str(llama_folder), device=["cpu"], dtype="bfloat16", threads=1)
    assert model.dtype == "bfloat16"
    assert len(model.generate("A dam", max_new_tokens=3).token_ids) == 3


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"device": "tpu"}, (ValueError, pyft.UnsupportedError)),
        ({"device": ["cpu"] * 3}, ValueError),  # four heads
        ({"device": ["cpu", "cpu"], "tensor_parallel": 4}, ValueError),
        ({"device": 3}, TypeError),
        ({"device": []}, TypeError),
        ({"dtype": "float7"}, ValueError),
        ({"dtype": np.float32}, TypeError),
        ({"tensor_parallel": 0}, ValueError),
        ({"tensor_parallel": "2"}, TypeError),
        ({"tensor_parallel": 3}, ValueError),
        ({"pipeline_parallel": 3}, ValueError),  # two layers
        ({"comm": object()}, pyft.UnsupportedError),
        ({"threads": 0}, ValueError),
        ({"threads": 1.5}, TypeError),
        ({"kv_cache_bytes": -1}, ValueError),
        ({"prefix_cache_bytes": -1}, ValueError),
    ],
)
def test_wrong_settings(llama_folder: Path, settings: dict, error: type) -> None:
    with pytest.raises(error):
        pyft.load(llama_folder, **settings)


def test_wrong_sources(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        pyft.load(None)
    with pytest.raises(TypeError):
        pyft.load(5)
    with pytest.raises(pyft.CheckpointError, match="nowhere"):
        pyft.load(tmp_path / "nowhere")
    with pytest.raises(pyft.CheckpointError):
        pyft.load(tmp_path)  # an empty folder
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03")
    with pytest.raises(pyft.CheckpointError, match=r"broken\.gguf"):
        pyft.load(tmp_path / "broken.gguf")


def test_damaged_checkpoints(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(pyft.CheckpointError, match=r"model\.safetensors"):
        pyft.load(folder)
    weights.write_bytes(whole.replace(b"model.norm.weight", b"model.gone.weight"))
    with pytest.raises(pyft.CheckpointError, match=r"model\.norm\.weight"):
        pyft.load(folder)
    weights.write_bytes(whole)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(pyft.CheckpointError, match=r"tokenizer\.json"):
        pyft.load(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text(json.dumps({**TINY_LLAMA, "model_type": "abacus"}))
    with pytest.raises(pyft.UnsupportedError, match="abacus"):
        pyft.load(folder)


def test_without_a_tokenizer(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    model = pyft.load(folder)
    assert model.tokenizer is None
    made = model.generate([5, 6, 7], max_new_tokens=2)
    assert made.text is None
    assert len(made.token_ids) == 2
    for call in (
        lambda: model.generate("text"),
        lambda: model.stream([5]),
        lambda: model.embed("text"),
        lambda: model.decode([5]),
        lambda: model.generate([5], stop_strings="x"),
    ):
        with pytest.raises(ValueError, match="tokenizer"):
            call()


def test_progress_is_told_and_may_cancel(llama_folder: Path) -> None:
    seen = []
    pyft.load(llama_folder, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    with pytest.raises(pyft.CancelledError):
        pyft.load(llama_folder, progress=lambda done, total: True)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        pyft.load(llama_folder, progress=fail)


def test_tensors_outlive_the_model(llama_folder: Path) -> None:
    model = pyft.load(llama_folder)
    logits = model.forward([[1, 2, 3]]).logits
    expected = logits.numpy().copy()
    del model
    gc.collect()
    np.testing.assert_array_equal(logits.numpy(), expected)


def test_model_outlives_its_tensors_and_inputs(llama: pyft.Model) -> None:
    first = llama.forward(np.array([[1, 2, 3]])).logits.numpy().copy()
    gc.collect()
    np.testing.assert_array_equal(llama.forward(np.array([[1, 2, 3]])).logits.numpy(), first)


def test_memory_goes_with_the_last_reference(llama_folder: Path, bert_folder: Path) -> None:
    """At once, not when the cycle collector comes by: weights are large."""
    gc.collect()
    gc.disable()
    try:
        decoder, encoder = pyft.load(llama_folder), pyft.load(bert_folder)
        decoder.generate("A dam", max_new_tokens=2, stop_strings="zz", logits_processor=lambda ids, logits: None)
        list(decoder.stream("A dam", max_new_tokens=2))
        encoder.embed("a dam")
        encoder.forward([[1, 2]])
        alive = [weakref.ref(decoder), weakref.ref(encoder)]
        del decoder, encoder
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


def test_close_and_context(llama_folder: Path) -> None:
    with pyft.load(llama_folder) as model:
        model.generate("A dam", max_new_tokens=2)
        stream = model.stream("A dam", max_new_tokens=4)
    for call in (
        lambda: model.generate("A dam"),
        lambda: model.forward([[1]]),
        lambda: model.embed("A dam"),
        lambda: next(stream),
        lambda: model.device,
    ):
        with pytest.raises(pyft.Error, match="closed"):
            call()
    model.close()
    assert "closed" in repr(model)


def _use_in_child(model: pyft.Model, queue: "multiprocessing.Queue[list[str]]") -> None:
    said = []
    for call in (lambda: model.generate("A dam", max_new_tokens=2), lambda: model.forward([[1, 2]])):
        try:
            call()
            said.append("no error")
        except pyft.Error as error:
            said.append(str(error))
    queue.put(said)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_fork_a_clear_error(llama_folder: Path) -> None:
    model = pyft.load(llama_folder)
    model.generate("A dam", max_new_tokens=2)  # a session exists
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_use_in_child, args=(model, queue))
    child.start()
    said = queue.get(timeout=30)
    child.join(30)
    assert child.exitcode == 0
    assert len(said) == 2
    assert all("fork" in message for message in said), said
    assert len(model.generate("A dam", max_new_tokens=2).token_ids) == 2


FORK_AND_EXIT = """
import os, sys, pyft
model = pyft.load(sys.argv[1])
model.generate("A dam", max_new_tokens=2)
if os.fork() == 0:
    del model      # frees what it can, and must not wait for threads that are not here
    fresh = pyft.load(sys.argv[1])
    assert len(fresh.generate("A dam", max_new_tokens=2).token_ids) == 2
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
"""


def test_a_forked_child_may_load_its_own_and_exit(llama_folder: Path, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_AND_EXIT, str(llama_folder)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr


def test_inspection_of_a_checkpoint(llama: pyft.Model) -> None:
    checkpoint = llama.checkpoint
    assert checkpoint.format == "safetensors"
    tensors = checkpoint.tensors()
    assert {tensor["usage"] for tensor in tensors} == {"used"}
    norm = next(tensor for tensor in tensors if tensor["name"] == "model.norm.weight")
    assert (norm["shape"], norm["dtype"], norm["size_bytes"]) == ((64,), "float32", 256)
    assert norm["file"].endswith("model.safetensors")
    assert checkpoint.metadata_keys() == []
    with pytest.raises(KeyError):
        checkpoint.metadata("nothing")


def rename_dtype(weights: Path, tensor: str, dtype: str, shape: list[int]) -> None:
    """Lets the header claim another dtype and shape for a tensor's bytes."""
    raw = weights.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header[tensor] |= {"dtype": dtype, "shape": shape}
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


def test_dtypes_and_ranks_that_libft_lacks_matter_only_where_needed(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    # Read as a model of one layer, the file holds tensors that nobody asks for.
    config = json.loads((folder / "config.json").read_text())
    config["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config))
    gate = "model.layers.1.mlp.gate_proj.weight"
    rename_dtype(weights, gate, "F8_E4M3", [128, 64 * 4])
    rename_dtype(weights, "model.layers.1.mlp.up_proj.weight", "F32", [2, 2, 2, 16, 64])
    model = pyft.load(folder, threads=1)
    assert len(model.generate([1, 2, 3], max_new_tokens=2).token_ids) == 2
    listed = {tensor["name"]: tensor for tensor in model.checkpoint.tensors()}
    assert (listed[gate]["dtype"], listed[gate]["usage"]) == ("F8_E4M3", "unused")
    assert listed["model.layers.1.mlp.up_proj.weight"]["shape"] == (2, 2, 2, 16, 64)

    config["num_hidden_layers"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(pyft.UnsupportedError, match=r"(?s)gate_proj.weight: its dtype F8_E4M3 .*5 axes; at most 4"):
        pyft.load(folder)
    assert inspect(str(folder))["unsupported"] == [gate, "model.layers.1.mlp.up_proj.weight"]


def test_a_checkpoint_outlives_its_model(llama_folder: Path) -> None:
    checkpoint = pyft.load(llama_folder).checkpoint
    gc.collect()
    assert checkpoint.config()["hidden_size"] == 64


def test_devices() -> None:
    found = pyft.devices()
    assert found[0].name == "cpu"
    assert found[0].memory_bytes > 0
    assert found[0].num_threads >= 1
    assert found[0].capabilities


def test_version() -> None:
    assert pyft.__version__.count(".") == 2


def test_error_classes() -> None:
    for kind in (
        pyft.CheckpointError,
        pyft.UnsupportedError,
        pyft.OutOfMemoryError,
        pyft.CancelledError,
        pyft.ParallelError,
    ):
        assert issubclass(kind, pyft.Error)
    assert issubclass(pyft.OutOfMemoryError, MemoryError)
