"""A model on several ranks, as users meet it; what it computes is tests/parity's."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny import write_llama

import pyft

SETTINGS = {"device": "cpu", "kv_cache_bytes": 16 << 20}


def threads() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/task"))


def test_ranks_say_what_they_have(llama_folder: Path) -> None:
    with pyft.load(llama_folder, **SETTINGS) as one:
        assert [r.transport for r in one.ranks] == [""]
        whole = one.weight_bytes
        pages = one.session().stats()["page_bytes"]
    with pyft.load(llama_folder, tensor_parallel=2, pipeline_parallel=2, threads=2, **SETTINGS) as model:
        assert [(r.tensor_rank, r.pipeline_stage, r.first_layer, r.num_layers) for r in model.ranks] == [
            (0, 0, 0, 1),
            (1, 0, 0, 1),
            (0, 1, 1, 1),
            (1, 1, 1, 1),
        ]
        assert all(r.device == "cpu" and r.transport == "shared memory" and r.num_kv_heads == 1 for r in model.ranks)
        assert sum(r.weight_bytes for r in model.ranks) == model.weight_bytes
        assert whole <= model.weight_bytes < 1.2 * whole  # norms are on every tensor rank
        assert max(r.weight_bytes for r in model.ranks) < 0.5 * whole
        assert model.session().stats()["page_bytes"] == pages  # over all ranks


def test_devices_without_a_split_share_each_layer(llama_folder: Path) -> None:
    with pyft.load(llama_folder, device=["cpu", "cpu"], kv_cache_bytes=1 << 20) as model:
        assert [r.tensor_rank for r in model.ranks] == [0, 1]
        assert model.generate("A dam", max_new_tokens=4, stop_token_ids=[]).token_ids.size == 4


def test_threads_end_with_the_model(llama_folder: Path) -> None:
    before = threads()
    for _ in range(3):
        with pyft.load(llama_folder, tensor_parallel=2, pipeline_parallel=2, threads=4, **SETTINGS) as model:
            model.generate("A dam", max_new_tokens=4)
            assert threads() >= before + 3
    assert threads() == before


def test_a_fault_while_loading_leaves_nothing(tmp_path: Path, llama_folder: Path) -> None:
    folder = write_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(
        weights.read_bytes().replace(b"model.layers.1.mlp.up_proj.weight", b"model.layers.1.mlp.no_proj.weight")
    )
    before = threads()
    for split in ({"tensor_parallel": 2}, {"pipeline_parallel": 2}):
        with pytest.raises(pyft.CheckpointError, match=r"layers\.1\.mlp\.up_proj"):
            pyft.load(folder, **split, **SETTINGS)
    with pytest.raises(pyft.CancelledError):
        pyft.load(llama_folder, tensor_parallel=2, progress=lambda done, total: True, **SETTINGS)
    assert threads() == before


def test_requests_of_many_threads(llama_folder: Path) -> None:
    """Some of them given up; what each gets is what it gets alone."""
    with (
        pyft.load(llama_folder, threads=1, **SETTINGS) as one,
        pyft.load(llama_folder, tensor_parallel=2, pipeline_parallel=2, threads=2, **SETTINGS) as model,
    ):
        rng = np.random.default_rng()
        prompts = [rng.integers(3, 500, rng.integers(1, 60)).tolist() for _ in range(24)]
        found: list[list[int] | None] = [None] * len(prompts)

        def ask(index: int) -> None:
            if index % 4 == 3:
                stream = model.stream(prompts[index], max_new_tokens=60, stop_token_ids=[])
                next(iter(stream), None)
                stream.close()
            else:
                made = model.generate(prompts[index], max_new_tokens=20, stop_token_ids=[])
                found[index] = made.token_ids.tolist()

        workers = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert not any(w.is_alive() for w in workers)
        same = sum(
            one.generate(prompt, max_new_tokens=20, stop_token_ids=[]).token_ids.tolist() == tokens
            for prompt, tokens in zip(prompts, found, strict=True)
            if tokens is not None
        )
        assert same >= 17  # of 18: sums are rounded otherwise
        assert model.session().stats()["pages_in_use"] == 0


def test_a_stream_or_allocator_is_refused(llama_folder: Path) -> None:
    class Lender:
        def allocate(self, size: int, device: int) -> int:
            return 0

        def deallocate(self, address: int, size: int, device: int) -> None:
            pass

    with pytest.raises(pyft.UnsupportedError, match="one rank"):
        pyft.load(llama_folder, tensor_parallel=2, allocator=Lender(), **SETTINGS)


def test_pages_take_half_of_what_is_free_however_many_ranks(tmp_path: Path) -> None:
    # Contexts that no machine holds.
    folder = write_llama(tmp_path, max_position_embeddings=1 << 20, num_key_value_heads=4)
    taken = []
    for split in ({}, {"tensor_parallel": 2}, {"tensor_parallel": 4, "pipeline_parallel": 2}):
        with pyft.load(folder, device="cpu", threads=1, max_batch_size=64, **split) as model:
            stats = model.session().stats()
            taken.append(stats["pages_total"] * stats["page_bytes"])
    assert max(taken) < 1.2 * min(taken)


def test_dropped_in_any_order(llama_folder: Path) -> None:
    model = pyft.load(llama_folder, tensor_parallel=2, threads=2, **SETTINGS)
    stream = model.stream("A dam", max_new_tokens=50, stop_token_ids=[])
    next(iter(stream))
    outputs = model.forward([[5, 6, 7]])
    model.close()
    del model
    gc.collect()
    assert np.isfinite(outputs.logits.numpy()).all()
    stream.close()
