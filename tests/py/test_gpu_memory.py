"""A GPU's memory: bounds, what does not fit, what goes back; several models and several GPUs at once."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import write_llama

import pyft

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu

MIB = 1 << 20
PAGE_TOKENS = 16


def free() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    return torch.cuda.mem_get_info()[0]


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 200 MiB of weights."""
    return write_llama(
        tmp_path_factory.mktemp("large"),
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=3,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2048,
    )


@pytest.fixture
def warm(llama_folder: Path) -> Iterator[None]:
    """What the process takes once and keeps (the context, kernels, cuBLASLt) is taken."""
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=MIB) as model:
        model.generate(list(range(5, 105)), max_new_tokens=8)
        model.generate(list(range(5, 105)), max_new_tokens=8, num_beams=2)
        model.forward([list(range(5, 105))] * 2)
    yield


def test_memory_goes_back(large_folder: Path, warm: None) -> None:
    readings = []
    for _ in range(3):
        before = free()
        with pyft.load(large_folder, device="cuda", kv_cache_bytes=256 * MIB) as model:
            model.generate([list(range(5, 300)), [1, 2, 3]], max_new_tokens=20)
            model.forward([list(range(5, 300))], output_device="cuda")
            used = before - free()
            assert used > model.weight_bytes + 250 * MIB
        readings.append(before - free())
    assert readings[1:] == [0, 0], f"bytes that stayed after each round: {readings}"


def test_outputs_go_back(llama_folder: Path, warm: None) -> None:
    with pyft.load(llama_folder, device="cuda") as model:
        rows = [list(range(5, 105))] * 200
        kept = model.forward(rows, output_device="cuda").logits
        before = free()
        assert kept.nbytes > 32 * MIB
        taken = torch.from_dlpack(kept)
        del kept
        assert free() == before
        del taken
        assert free() - before >= 32 * MIB


def test_page_pool_is_bounded(large_folder: Path, warm: None) -> None:
    with pyft.load(large_folder, device="cuda", kv_cache_bytes=64 * MIB) as model:
        model.generate([1, 2, 3], max_new_tokens=2)
        one = free()
        stats = model.session().stats()
        assert stats["pages_total"] * stats["page_bytes"] <= 64 * MIB
        assert stats["pages_total"] * stats["page_bytes"] > 63 * MIB
    with pyft.load(large_folder, device="cuda", kv_cache_bytes=192 * MIB) as model:
        model.generate([1, 2, 3], max_new_tokens=2)
        assert abs(one - free() - 128 * MIB) <= 8 * MIB


def test_a_request_that_can_never_fit(large_folder: Path) -> None:
    page = 2 * 3 * PAGE_TOKENS * 1024 * 4  # keys and values of three layers, float32
    with pyft.load(large_folder, device="cuda", kv_cache_bytes=4 * page) as model:
        with pytest.raises(
            pyft.OutOfMemoryError, match="take 8 key-value pages of 16 tokens; the session has 4: raise kv_cache_bytes"
        ):
            model.generate(list(range(3, 70)), max_new_tokens=60)
        assert len(model.generate([5, 6, 7], max_new_tokens=30, stop_token_ids=[]).token_ids) == 30


def test_requests_that_do_not_fit_wait(large_folder: Path) -> None:
    page = 2 * 3 * PAGE_TOKENS * 1024 * 4
    prompts = [[n + 3, 5, 7 + n] for n in range(12)]
    with pyft.load(large_folder, device="cuda", kv_cache_bytes=256 * MIB) as model:
        expected = [g.token_ids.tolist() for g in model.generate(prompts, max_new_tokens=40, stop_token_ids=[])]
    with pyft.load(large_folder, device="cuda", kv_cache_bytes=7 * page, prefix_cache=False) as model:
        found = [g.token_ids.tolist() for g in model.generate(prompts, max_new_tokens=40, stop_token_ids=[])]
        stats = model.session().stats()
        assert stats["pages_in_use"] == 0 and stats["steps"] > 3 * 40  # two at a time
    assert found == expected


class Hog:
    """Takes the GPU's memory but for `left` bytes."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __enter__(self) -> "Hog":
        self.taken = [torch.empty(free() - self.left, dtype=torch.uint8, device="cuda")]
        return self

    def __exit__(self, *failure: object) -> None:
        self.taken.clear()
        free()


def test_a_model_larger_than_the_gpu(llama_folder: Path, large_folder: Path, warm: None) -> None:
    before = free()
    with Hog(100 * MIB):
        with pytest.raises(pyft.OutOfMemoryError, match=r"the weights take \d+ MiB on cuda:0 \(\d+ MiB in float32\)"):
            pyft.load(large_folder, device="cuda")
        assert free() > 90 * MIB
        with pyft.load(llama_folder, device="cuda", kv_cache_bytes=MIB) as model:  # a small one fits still
            assert len(model.generate([5, 6], max_new_tokens=5, stop_token_ids=[]).token_ids) == 5
    assert free() == before


def test_pages_leave_half_of_what_is_free(large_folder: Path, warm: None) -> None:
    """Where nobody says how many: the largest batch could fill gigabytes."""
    with Hog(1024 * MIB), pyft.load(large_folder, device="cuda") as model:
        left = free()
        stats = model.session().stats()
        assert 0.9 * left / 2 < stats["pages_total"] * stats["page_bytes"] <= left / 2
        assert free() > 0.45 * left


def test_pages_that_do_not_fit(llama_folder: Path, warm: None) -> None:
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=1 << 50, max_batch_size=128) as model:
        # No more than the largest batch can fill is taken, however large the bound is.
        assert len(model.generate([5, 6], max_new_tokens=5, stop_token_ids=[]).token_ids) == 5
    before = free()
    with Hog(48 * MIB):
        with pyft.load(llama_folder, device="cuda") as model:  # half of what is free
            assert len(model.generate([5, 6], max_new_tokens=5, stop_token_ids=[]).token_ids) == 5
        with (
            pyft.load(llama_folder, device="cuda", kv_cache_bytes=1 << 40, max_batch_size=4096) as model,
            pytest.raises(pyft.OutOfMemoryError, match="cuda:0"),
        ):
            model.generate([5, 6], max_new_tokens=5)
    assert free() == before


def test_memory_ends_in_a_pass(llama_folder: Path, warm: None) -> None:
    rows = [list(range(5, 205))] * 300
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=MIB) as model:
        expected = model.forward(rows[:1]).logits.numpy()
        with Hog(24 * MIB):
            for _ in range(3):
                with pytest.raises(pyft.OutOfMemoryError, match="cuda:0"):
                    model.forward(rows, output_device="cuda")
            assert (model.forward(rows[:1]).logits.numpy() == expected).all()
            assert len(model.generate([5, 6], max_new_tokens=5, stop_token_ids=[]).token_ids) == 5
        assert model.forward(rows, output_device="cuda").logits.shape == (300, 200, 512)


def test_several_models_at_once(tmp_path: Path) -> None:
    """Models on all GPUs, several on each, from a thread each."""
    names = [device.name for device in pyft.devices()[1:]]
    folders = [write_llama(tmp_path / f"llama{seed}", seed) for seed in range(3)]
    prompts = [list(range(3, 8 + 5 * n)) for n in range(6)]
    settings = {"max_new_tokens": 24, "stop_token_ids": []}
    expected = []
    for folder in folders:
        with pyft.load(folder, device="cpu", threads=1, kv_cache_bytes=16 * MIB) as model:
            expected.append([g.token_ids.tolist() for g in model.generate(prompts, **settings)])
    problems: list[str] = []

    def run(device: str, which: int) -> None:
        try:
            with pyft.load(folders[which], device=device, kv_cache_bytes=16 * MIB) as model:
                for _ in range(4):
                    found = [g.token_ids.tolist() for g in model.generate(prompts, **settings)]
                    if found != expected[which]:
                        problems.append(f"{device}, model {which}: {found} in place of {expected[which]}")
                logits = model.forward([prompts[0]], output_device=device).logits
                if logits.device != device or torch.from_dlpack(logits).isnan().any():
                    problems.append(f"{device}, model {which}: logits on {logits.device}")
        except BaseException as error:
            problems.append(f"{device}, model {which}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(name, which)) for name in names for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, "\n".join(problems)


def test_a_forked_child_is_refused(llama_folder: Path) -> None:
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=MIB) as model:
        child = os.fork()
        if child == 0:
            try:
                model.generate([5, 6], max_new_tokens=2)
            except pyft.Error as error:
                os._exit(0 if "fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(model.generate([5, 6], max_new_tokens=2, stop_token_ids=[]).token_ids) == 2
