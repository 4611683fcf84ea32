"""Loading holds one copy of the model: at most 1.2 times the largest tensor more than the weights take in the end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY_LLAMA

from pyft.presets import Preset, write_checkpoint

LOADING = Path(__file__).resolve().parents[2] / "benchmarks" / "loading.py"

# 190 MiB in float32, so that what Python and threads take does not count; the largest tensor is a third of it.
CONFIG = {**TINY_LLAMA, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 32000}
CONFIG["num_hidden_layers"] = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large")
    write_checkpoint(Preset(CONFIG, "float32"), path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_loading_holds_no_second_copy(folder: Path, dtype: str) -> None:
    command = [sys.executable, "-P", str(LOADING), "--job", "watch", f"{folder}:{dtype}", "--threads", "2"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    memory = json.loads(run.stdout)
    largest = 4 * 32000 * 512  # the embedding's table, as it is stored
    assert memory["weight_bytes"] > largest
    assert memory["most"] - memory["before"] <= memory["weight_bytes"] + 1.2 * largest
    assert memory["after"] - memory["before"] <= memory["weight_bytes"] + 0.1 * largest
