"""Fixtures of the parity tests: the run's seed, and models that are drawn once a run and shared.

Each run draws fresh models and prompts. A failure prints the run's seed; FT_TEST_SEED=<seed> repeats it.
"""

from __future__ import annotations

import os
import secrets
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from . import models
from .compare import DEVICE
from .pair import Pair

MOST_OPEN = 12  # models at a time on a GPU, whose memory they would fill with pages and recorded passes

_SEED = int(os.environ.get("FT_TEST_SEED") or secrets.randbits(31))


def pytest_report_header() -> str:
    return f"parity: FT_TEST_SEED={_SEED}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.append(("seed", f"repeat with FT_TEST_SEED={_SEED}"))


def seed_of(*names: object) -> int:
    """A seed that depends on the run's and on the names, not on which tests run before."""
    return zlib.crc32(f"{_SEED}:{names}".encode())


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """The test's own generator."""
    return np.random.default_rng(seed_of(request.node.nodeid))


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)  # the models are small, and idle threads that spin would slow what is measured against


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """tiny(name, dtype=..., shard_size=..., **config): a variant's saved model, open in both libraries."""
    made: dict[tuple, Pair] = {}

    def make(
        name: str, dtype: torch.dtype = torch.float32, shard_size: str | None = None, tag: str = "", **overrides: object
    ) -> Pair:
        key = (name, dtype, shard_size, tag, tuple(sorted((k, repr(v)) for k, v in overrides.items())))
        if key not in made:
            folder: Path = tmp_path_factory.mktemp(name)
            variant = models.VARIANTS[name]
            models.save(variant, folder, seed_of(*key), dtype, shard_size, **overrides)
            made[key] = Pair(variant, folder)
        made[key] = made.pop(key)  # the last now
        if DEVICE != "cpu":
            for pair in list(made.values())[:-MOST_OPEN]:
                pair.close()
        return made[key]

    return make
