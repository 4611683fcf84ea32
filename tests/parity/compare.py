"""How two results are compared: relative distances, greedy tokens up to a true tie, and chi-squared tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

# FT_TEST_DEVICE=cuda asks the same questions of a GPU.
DEVICE = os.environ.get("FT_TEST_DEVICE", "cpu")

FLOAT32_BOUND = 1e-4  # max |difference| over max |reference|, for whole models in float32
BOUNDS = {"float32": FLOAT32_BOUND, "float16": 4e-3, "bfloat16": 4e-2, "int8": 2e-1}  # and in each dtype
INT8 = pytest.param("int8", marks=pytest.mark.skipif(DEVICE != "cpu", reason="a GPU does not compute in int8"))
FALSE_ALARM = 1e-7  # chance that a statistical test of a correct sampler fails


def distance(ours: object, reference: object) -> float:
    """max |ours - reference| / max |reference|; infinite when a value is not finite."""
    a = np.asarray(ours, dtype=np.float64)
    b = np.asarray(reference, dtype=np.float64)
    assert a.shape == b.shape, f"shape {a.shape}, expected {b.shape}"
    assert np.isfinite(b).all() and np.abs(b).max() > 0, "a reference of zeros proves nothing"
    if not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())


def assert_close(ours: object, reference: object, what: str, bound: float = FLOAT32_BOUND) -> None:
    """Fails with the distance when two arrays are further apart than `bound`."""
    d = distance(ours, reference)
    assert d <= bound, f"{what}: relative distance {d:.3g}, bound {bound:.3g}"


def assert_same(
    ours: object, other: object, what: str = "the same rows, computed otherwise", bound: float = FLOAT32_BOUND
) -> None:
    """Fails unless two of our own results are equal: on the CPU to the bit, on a GPU, which does not promise
    that, up to rounding: `bound`, as assert_close has it, of 1 at least."""
    a, b = np.asarray(ours), np.asarray(other)
    if DEVICE == "cpu":
        assert np.array_equal(a, b, equal_nan=True), f"{what}: not equal to the bit"
        return
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    largest = np.nanmax(np.abs(b), initial=0)
    np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(1, largest), err_msg=what)


def assert_same_generation(ours: Any, other: Any, bound: float = FLOAT32_BOUND, beams: bool = False) -> None:
    """Fails unless two of our own greedy or beam searches (with log-probabilities) found the same. On a GPU rounding
    may decide between two tokens that are as probable as each other: what follows them cannot be compared. Of
    beams it may decide which one lives, and in fewer bits than float32's by much."""
    same = np.array_equal(ours.token_ids, other.token_ids)
    if DEVICE == "cpu" or same:
        assert same
        assert_same(ours.logprobs, other.logprobs, bound=bound)
    elif beams:
        if bound == FLOAT32_BOUND:
            assert_same(ours.score, other.score, "the best beams' scores")
    else:
        shortest = min(len(ours.token_ids), len(other.token_ids))
        first = int(np.argmax(np.append(ours.token_ids[:shortest] != other.token_ids[:shortest], True)))
        assert first < shortest, "one generation is the beginning of the other"
        assert_same(ours.logprobs[: first + 1], other.logprobs[: first + 1], f"up to token {first}", bound)


def assert_greedy(ours: Sequence[int], reference: Sequence[int], scores: np.ndarray, what: str) -> None:
    """Fails unless the tokens are equal. `scores` [steps, vocab_size] are the reference's: where its two best lie
    within rounding of each other either token is right, and what follows cannot be compared. A reference that
    ties in its first half was drawn badly, and fails too."""
    for step, (a, b) in enumerate(zip(ours, reference, strict=False)):
        if a == b:
            continue
        row = np.asarray(scores[step], dtype=np.float64)
        gap = row[b] - row[a]
        bound = 2 * FLOAT32_BOUND * np.abs(row[np.isfinite(row)]).max()
        assert gap <= bound, f"{what}: token {step} is {a}, expected {b}, whose score is higher by {gap:.3g}"
        assert step >= len(reference) // 2, f"{what}: a tie at step {step} of {len(reference)}; draw another seed"
        return
    assert len(ours) == len(reference), f"{what}: {len(ours)} tokens, expected {len(reference)}"


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for a chi-squared variable: the regularised upper incomplete gamma function."""
    half = torch.tensor(0.5, dtype=torch.float64)
    return float(torch.special.gammaincc(degrees * half, statistic * half))


def assert_counts(counts: np.ndarray, probabilities: np.ndarray, what: str) -> None:
    """Pearson's chi-squared test. The rarest cells are merged into one that expects at least 50: the tail of a
    small count is far heavier than a normal one's."""
    counts = np.asarray(counts, dtype=np.float64)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    assert counts[probabilities == 0].sum() == 0, f"{what}: something impossible was drawn"
    expected = probabilities / probabilities.sum() * counts.sum()
    assert expected.sum() >= 50, f"{what}: too few draws"
    rarest_first = np.argsort(expected)
    merged = int(np.searchsorted(np.cumsum(expected[rarest_first]), 50)) + 1
    rare, common = rarest_first[:merged], rarest_first[merged:]
    observed = np.append(counts[common], counts[rare].sum())
    expected = np.append(expected[common], expected[rare].sum())
    statistic = float(((observed - expected) ** 2 / expected).sum())
    degrees = len(expected) - 1
    tail = chi_squared_tail(statistic, degrees) if degrees > 0 else 1.0
    assert tail > FALSE_ALARM, f"{what}: chi-squared {statistic:.1f} over {degrees + 1} cells, p = {tail:.2g}"
