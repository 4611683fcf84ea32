"""Where a model lies: memory that the caller gives, on the CPU and on a GPU."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pyft

PROMPT = list(range(5, 20))


class Lender:
    """Gives memory of a device until `left` calls have been made, and keeps account of it."""

    def __init__(self, left: int = 1 << 40) -> None:
        self.left = left
        self.calls = 0
        self.most = 0
        self.out: dict[int, int] = {}
        self.wrong: list[str] = []

    def allocate(self, size: int, device: int) -> int:
        self.calls += 1
        self.left -= 1
        if self.left < 0:
            raise MemoryError("no more is lent")
        address = self.take(size, device)
        self.out[address] = size
        self.most = max(self.most, sum(self.out.values()))
        return address

    def deallocate(self, address: int, size: int, device: int) -> None:
        if self.out.pop(address, None) != size or device != 0:
            self.wrong.append(f"{size} bytes at {address:#x} on device {device} were not lent")
        else:
            self.give(address)

    def take(self, size: int, device: int) -> int:
        raise NotImplementedError

    def give(self, address: int) -> None:
        raise NotImplementedError


class HostLender(Lender):
    def __init__(self, left: int = 1 << 40) -> None:
        super().__init__(left)
        self.arrays: dict[int, np.ndarray] = {}

    def take(self, size: int, device: int) -> int:
        array = np.full(size + 256, 0x5A, dtype=np.uint8)
        address = -(-array.ctypes.data // 256) * 256
        self.arrays[address] = array
        return address

    def give(self, address: int) -> None:
        self.arrays.pop(address)[:] = 0xA5  # whoever still reads it gets something else


class TorchLender(Lender):
    """From PyTorch's caching allocator."""

    def take(self, size: int, device: int) -> int:
        import torch

        return torch.cuda.caching_allocator_alloc(size, device)

    def give(self, address: int) -> None:
        import torch

        torch.cuda.caching_allocator_delete(address)


DEVICES = [("cpu", HostLender), pytest.param("cuda", TorchLender, marks=pytest.mark.gpu)]


def use(folder: Path, device: str, lender: Lender | None) -> tuple[list[int], list[float]]:
    """Everything that takes memory on the device, once."""
    with pyft.load(folder, device=device, threads=1, kv_cache_bytes=1 << 20, allocator=lender) as model:
        tokens = model.generate(PROMPT, max_new_tokens=10, stop_token_ids=[]).token_ids.tolist()
        beams = model.generate(PROMPT, max_new_tokens=6, num_beams=3, stop_token_ids=[]).token_ids.tolist()
        logits = model.forward([PROMPT], output_device=device).logits
    return tokens + beams, logits.cpu().numpy()[0, -1].tolist()


@pytest.fixture
def collected() -> Iterator[None]:
    gc.collect()
    yield
    gc.collect()


@pytest.mark.parametrize("device, kind", DEVICES)
def test_lent_memory(llama_folder: Path, collected: None, device: str, kind: type[Lender]) -> None:
    lender = kind()
    assert use(llama_folder, device, lender) == use(llama_folder, device, None)
    gc.collect()
    assert lender.calls > 10 and lender.most > 1 << 20
    assert not lender.out, f"{len(lender.out)} pieces were kept: {sorted(lender.out.values())}"
    assert not lender.wrong


@pytest.mark.parametrize("device, kind", DEVICES)
def test_lent_memory_ends_at_any_call(llama_folder: Path, collected: None, device: str, kind: type[Lender]) -> None:
    """Each single allocation refused, and all that follow: an error that says so, nothing kept, nothing broken."""
    plenty = kind()
    expected = use(llama_folder, device, plenty)
    refused = 0
    for n in range(plenty.calls):
        lender = kind(left=n)
        try:
            with pytest.raises(pyft.OutOfMemoryError, match=r"allocator gave none of the \d+ bytes"):
                use(llama_folder, device, lender)
        except pytest.fail.Exception:
            # One that the library can do without; the arenas' sizes may differ from run to run.
            assert n > plenty.calls - 3, f"all went well with {n} of {plenty.calls} allocations"
            continue
        refused += 1
        gc.collect()
        assert not lender.out, f"after {n} calls {len(lender.out)} pieces were kept: {sorted(lender.out.values())}"
        assert not lender.wrong
    assert refused >= plenty.calls - 3
    assert use(llama_folder, device, kind()) == expected


@pytest.mark.parametrize("device, kind", DEVICES)
def test_engine_goes_on(llama_folder: Path, device: str, kind: type[Lender]) -> None:
    """Memory ends while the engine runs: requests fail, and the next ones are right."""
    with pyft.load(llama_folder, device=device, threads=1, kv_cache_bytes=1 << 20) as model:
        expected = [model.generate(PROMPT[:n], max_new_tokens=8, stop_token_ids=[]).token_ids.tolist() for n in (3, 9)]
    lender = kind()
    with pyft.load(llama_folder, device=device, threads=1, kv_cache_bytes=1 << 20, allocator=lender) as model:
        model.session()
        for left in (0, 1, 1 << 40):
            lender.left = left
            if left < 2:
                with pytest.raises(pyft.OutOfMemoryError, match="allocator"):
                    model.generate(PROMPT[:3], max_new_tokens=8, stop_token_ids=[])
        for n, tokens in zip((3, 9), expected, strict=True):
            assert model.generate(PROMPT[:n], max_new_tokens=8, stop_token_ids=[]).token_ids.tolist() == tokens
    gc.collect()
    assert not lender.out and not lender.wrong


@pytest.mark.parametrize("device, kind", DEVICES)
def test_outputs_keep_lent_memory(llama_folder: Path, device: str, kind: type[Lender]) -> None:
    lender = kind()
    with pyft.load(llama_folder, device=device, threads=1, allocator=lender) as model:
        logits = model.forward([PROMPT], output_device=device).logits
        expected = logits.tolist()
    gc.collect()
    if device != "cpu":  # on the CPU outputs are host memory of the library's own
        assert len(lender.out) == 1 and logits.nbytes in lender.out.values()
    assert logits.tolist() == expected
    del logits, model
    gc.collect()
    assert not lender.out and not lender.wrong


def test_allocator_misuse(llama_folder: Path) -> None:
    class Askew(HostLender):
        def take(self, size: int, device: int) -> int:
            return super().take(size + 64, device) + 64

        def give(self, address: int) -> None:
            super().give(address - 64)

    lender = Askew()
    with pytest.raises(ValueError, match="aligned to 256"):
        pyft.load(llama_folder, device="cpu", allocator=lender)
    assert not lender.out and not lender.wrong and not lender.arrays
    with pytest.raises(ValueError, match="CPU"):
        pyft.load(llama_folder, device="cpu", stream=1)
    with pytest.raises(TypeError, match="stream"):
        pyft.load(llama_folder, device="cpu", stream="fast")
