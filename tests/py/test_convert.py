"""pyft convert: what it writes, refuses and leaves behind. That it loses no bit is shown in tests/parity."""

import json
from pathlib import Path

import pytest

import pyft
from pyft.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_answers_stay(
    capsys: pytest.CaptureFixture[str], llama: pyft.Model, llama_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert call(capsys, "convert", llama_folder, out, "--tensor-parallel", 2) == (0, "", "")
    converted = pyft.load(out, threads=1, kv_cache_bytes=64 << 20)
    assert converted.generate("A dam", max_new_tokens=8).text == llama.generate("A dam", max_new_tokens=8).text
    assert converted.special_tokens == llama.special_tokens
    assert converted.chat_templates == llama.chat_templates
    assert dict(converted.config) == dict(llama.config)
    found = json.loads(call(capsys, "inspect", out, "--json")[1])
    assert found["format"] == "libft"
    assert not found["missing"]
    assert not found["unused"]


def test_gguf_keeps_its_tokenizer(smollm2: pyft.Model, smollm2_path: Path, tmp_path: Path) -> None:
    pyft.convert(smollm2_path, tmp_path / "out")
    converted = pyft.load(tmp_path / "out", kv_cache_bytes=256 << 20)
    assert converted.dtype == smollm2.dtype
    assert converted.chat_templates == smollm2.chat_templates
    asked = [{"role": "user", "content": "Name a colour."}]
    assert converted.chat(asked, max_new_tokens=8).text == smollm2.chat(asked, max_new_tokens=8).text


def test_destinations(capsys: pytest.CaptureFixture[str], llama_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pyft.convert(llama_folder, out)
    status, _, error = call(capsys, "convert", llama_folder, out)
    assert status == 1
    assert "exists already" in error
    assert call(capsys, "convert", llama_folder, out, "--force", "--tensor-parallel", 2)[0] == 0
    assert (out / "weights.rank-1.safetensors").exists()
    assert call(capsys, "convert", out, out, "--force")[0] == 0  # onto itself
    assert sorted(path.name for path in out.glob("*.safetensors")) == ["weights.safetensors"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "work.txt").write_text("years")
    with pytest.raises(ValueError, match="is not overwritten"):
        pyft.convert(llama_folder, precious, overwrite=True)
    assert (precious / "work.txt").read_text() == "years"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "precious"]


def test_a_stopped_conversion_leaves_nothing(llama_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> bool:
        seen.append((done, total))
        return len(seen) == 5

    with pytest.raises(pyft.CancelledError):
        pyft.convert(llama_folder, tmp_path / "out", progress=stop)
    assert not list(tmp_path.iterdir())

    def fail(done: int, total: int) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pyft.convert(llama_folder, tmp_path / "out", progress=fail)
    assert not list(tmp_path.iterdir())
    seen.clear()
    pyft.convert(llama_folder, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_refusals(llama_folder: Path, tmp_path: Path) -> None:
    for message, arguments in {
        "dtype 'int8'": {"dtype": "int8"},
        "tensor_parallel is 3, which does not divide": {"tensor_parallel": 3},
        "pipeline_parallel is 100, but there are": {"pipeline_parallel": 100},
        "tensor_parallel=0 is outside": {"tensor_parallel": 0},
    }.items():
        with pytest.raises(ValueError, match=message):
            pyft.convert(llama_folder, tmp_path / "out", **arguments)
    with pytest.raises(TypeError, match="source must be a path"):
        pyft.convert(3, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(pyft.CheckpointError, match="cannot be made"):
        pyft.convert(llama_folder, tmp_path / "absent" / "out")
    assert not list(tmp_path.iterdir())


def test_a_manifest_is_not_believed(llama_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pyft.convert(llama_folder, out, tensor_parallel=2)
    good = json.loads((out / "manifest.json").read_text())
    lies = {
        "is of version 9": {"version": 9},
        "'format' is not": {"format": "other"},
        "'tensor_parallel' is 0": {"tensor_parallel": 0},
        "no name of a file": {"files": [{"name": "../x.safetensors"}]},
        "cannot be opened": {"files": [{"name": "absent.safetensors"}]},
        "which are not among": {"files": [{"name": "weights.rank-0.safetensors", "rank": 2}]},
        "is not in the manifest": {"weights": {}},
        "is missing": {"files": good["files"][:-1]},
        "the key 'config' is missing": {"config": None},
        "a size of 0": {"config": {**good["config"], "attention": {**good["config"]["attention"], "num_heads": 0}}},
        "do not fit": {"config": {**good["config"], "hidden_size": 128}},
    }
    for message, change in lies.items():
        (out / "manifest.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(pyft.Error, match=message):
            pyft.load(out)
