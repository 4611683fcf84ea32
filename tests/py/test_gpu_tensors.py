"""Tensors on a GPU, both ways, without a copy and without a race. The CPU's results are the reference."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import write_bert, write_llama

import pyft

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu

WIDTH = 64  # of the tiny models
LONG = 2_000_000_000  # clock cycles: about a second
# Sums in another order, in float32 and in 16 bits.
CLOSE = {"float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}


@pytest.fixture(scope="module")
def on_cpu(llama_folder: Path) -> pyft.Model:
    return pyft.load(llama_folder, device="cpu", threads=1)


@pytest.fixture(scope="module")
def on_gpu(llama_folder: Path) -> Iterator[pyft.Model]:
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=64 << 20) as model:
        yield model


def embeddings(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, WIDTH)).astype(np.float32)


def check(ours, reference, dtype: str = "float32") -> None:
    """As floats on the host, relative to the largest."""
    ours = ours.float().cpu().numpy() if isinstance(ours, torch.Tensor) else ours.cpu().numpy()
    reference = reference.cpu().numpy()
    assert ours.shape == reference.shape
    worst = np.abs(ours - reference).max() / np.abs(reference).max()
    assert worst < CLOSE[dtype], f"off by {worst:.2e} of the largest value"


def slowly(tensor, values: np.ndarray):
    """Writes the values on the current stream, after a long wait there; returns at once."""
    torch.cuda._sleep(LONG)
    tensor.copy_(torch.from_numpy(values).pin_memory(), non_blocking=True)
    return tensor


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_ids_on_the_gpu(on_cpu: pyft.Model, on_gpu: pyft.Model, dtype) -> None:
    ids = torch.randint(0, 255, (3, 9), dtype=dtype)
    expected = on_cpu.forward(ids.long())
    given = ids.cuda()
    out = on_gpu.forward(given)
    assert out.logits.device == out.last_hidden_state.device == "cuda:0"
    check(torch.from_dlpack(out.logits), expected.logits)
    check(torch.from_dlpack(out.last_hidden_state), expected.last_hidden_state)
    check(on_gpu.forward(given.T.contiguous().T, output_device="cpu").logits, expected.logits)  # transposed in memory
    check(on_gpu.forward(list(given), output_device="cpu").logits, expected.logits)
    check(on_gpu.forward(ids.long().numpy(), output_device="cuda").logits, expected.logits)


def test_padding_on_the_gpu(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    ids = torch.randint(3, 500, (4, 11))
    mask = torch.ones(4, 11, dtype=torch.bool)
    mask[0, :4] = mask[1, 9:] = mask[3, :10] = False
    expected = on_cpu.forward(ids, mask)
    out = on_gpu.forward(ids.cuda(), mask.cuda())
    check(torch.from_dlpack(out.logits), expected.logits)
    assert not torch.from_dlpack(out.logits)[~mask.cuda()].any()


def test_prompts_on_the_gpu(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    ids = torch.randint(3, 500, (3, 8))
    settings = {"max_new_tokens": 12, "stop_token_ids": []}
    expected = [g.token_ids.tolist() for g in on_cpu.generate(ids, **settings)]
    assert [g.token_ids.tolist() for g in on_gpu.generate(ids.cuda(), **settings)] == expected
    assert [g.token_ids.tolist() for g in on_gpu.generate(list(ids.cuda()), **settings)] == expected
    soft = torch.from_numpy(embeddings(1, 6))
    expected = on_cpu.generate(inputs_embeds=soft, **settings).token_ids.tolist()
    assert on_gpu.generate(inputs_embeds=soft.cuda(), **settings).token_ids.tolist() == expected


LAYOUTS: dict[str, Callable] = {
    "dense": lambda t: t,
    "rows apart": lambda t: torch.cat([t, t], dim=2)[..., :WIDTH],
    "sequences apart": lambda t: torch.cat([t, t], dim=1)[:, : t.shape[1]],
    "batch inside": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "elements apart": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "repeated": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_embeddings_of_any_layout(on_cpu: pyft.Model, on_gpu: pyft.Model, layout: str, dtype: str) -> None:
    given = LAYOUTS[layout](torch.from_numpy(embeddings(2, 3, 7)).to("cuda", getattr(torch, dtype)))
    mask = torch.ones(3, 7, dtype=torch.int64)
    mask[1, :3] = 0
    for kept in (None, mask):
        expected = on_cpu.forward(inputs_embeds=given.float().cpu().contiguous(), attention_mask=kept)
        out = on_gpu.forward(inputs_embeds=given, attention_mask=kept)
        assert out.logits.device == "cuda:0"
        check(torch.from_dlpack(out.logits), expected.logits)


def test_taken_from_a_busy_stream(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    """The embeddings are written last on a side stream that is busy for a second."""
    values = embeddings(3, 2, 5)
    expected = on_cpu.forward(inputs_embeds=values)
    given = torch.full((2, 5, WIDTH), float("nan"), device="cuda")
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        slowly(given, values)
        out = on_gpu.forward(inputs_embeds=given)
    check(torch.from_dlpack(out.logits), expected.logits)
    with torch.cuda.stream(side):  # held before, and handed over when it is used
        given.fill_(float("nan"))
        held = pyft.from_dlpack(slowly(given, values))
        assert not side.query()
    check(on_gpu.forward(inputs_embeds=held, output_device="cpu").logits, expected.logits)
    with torch.cuda.stream(side):
        ids = slowly(torch.zeros(1, 6, dtype=torch.int64, device="cuda"), np.arange(6).reshape(1, 6))
        logits = on_gpu.forward(ids, output_device="cpu").logits
    check(logits, on_cpu.forward(np.arange(6).reshape(1, 6)).logits)
    assert held.tolist() == values.tolist()


def test_input_may_change_after_the_call(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    values = embeddings(4, 2, 5)
    given = torch.from_numpy(values).cuda()
    out = on_gpu.forward(inputs_embeds=given)
    given.fill_(float("nan"))
    check(torch.from_dlpack(out.logits), on_cpu.forward(inputs_embeds=values).logits)


def test_handed_to_a_stream(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    """Whoever takes an output over, on whatever stream, finds it computed."""
    values = embeddings(5, 4, 50)
    expected = on_cpu.forward(inputs_embeds=values).logits
    given = torch.from_numpy(values).cuda()
    for _ in range(20):
        stream = torch.cuda.Stream()
        out = on_gpu.forward(inputs_embeds=given)
        with torch.cuda.stream(stream):
            copied = torch.from_dlpack(out.logits).clone()
        stream.synchronize()
        check(copied, expected)
        check(torch.from_dlpack(on_gpu.forward(inputs_embeds=given).logits).clone(), expected)  # the default stream


def test_out_without_a_copy(on_gpu: pyft.Model) -> None:
    logits = on_gpu.forward(torch.arange(10, device="cuda")[None]).logits
    assert logits.__dlpack_device__() == (2, 0)
    taken = torch.from_dlpack(logits)
    assert taken.data_ptr() == logits.data_ptr and taken.device == torch.device("cuda", 0)
    assert tuple(taken.shape) == logits.shape
    interface = logits.__cuda_array_interface__
    assert interface["version"] == 3 and interface["stream"] is None and interface["typestr"] == "<f4"
    again = torch.as_tensor(logits, device="cuda")
    assert again.data_ptr() == logits.data_ptr and torch.equal(again, taken)
    np.testing.assert_array_equal(logits.cpu().numpy(), taken.cpu().numpy())
    back = pyft.from_dlpack(taken)
    assert back.data_ptr == taken.data_ptr() and back.device == "cuda:0"
    turned = pyft.from_dlpack(taken[0].T[::2])
    np.testing.assert_array_equal(turned.cpu().numpy(), taken[0].T[::2].cpu().numpy())
    for stream in (1, 2, -1, torch.cuda.Stream().cuda_stream):
        logits.__dlpack__(stream=stream, max_version=(1, 0))
    for wrong in (0, -2, "1"):
        with pytest.raises(ValueError, match="stream"):
            logits.__dlpack__(stream=wrong)
    with pytest.raises(TypeError, match="cuda:0"):
        logits.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtype_is_kept(llama_folder: Path, on_cpu: pyft.Model, dtype: str) -> None:
    values = embeddings(6, 2, 6)
    expected = on_cpu.forward(inputs_embeds=values)
    with pyft.load(llama_folder, device="cuda", dtype=dtype) as model:
        out = model.forward(inputs_embeds=torch.from_numpy(values).cuda())
        on_host = model.forward(inputs_embeds=values)
    assert out.last_hidden_state.dtype == dtype and out.logits.dtype == "float32"
    assert on_host.last_hidden_state.dtype == "float32" and on_host.logits.device == "cpu"
    hidden = torch.from_dlpack(out.last_hidden_state)  # the model is closed, its tensors are not
    assert hidden.dtype == getattr(torch, dtype)
    check(hidden, expected.last_hidden_state, dtype)
    check(on_host.last_hidden_state, expected.last_hidden_state, dtype)
    if dtype == "bfloat16":
        assert not hasattr(out.last_hidden_state, "__cuda_array_interface__")
    else:
        interface = out.last_hidden_state.__cuda_array_interface__
        assert interface["typestr"] == {"float32": "<f4", "float16": "<f2"}[dtype]


def test_encoder_outputs_stay(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert")
    ids = torch.randint(5, 150, (3, 12))
    expected = pyft.load(folder, device="cpu", threads=1).forward(ids)
    with pyft.load(folder, device="cuda") as model:
        out = model.forward(ids.cuda())
        assert out.pooler_output.device == "cuda:0"
        check(torch.from_dlpack(out.pooler_output), expected.pooler_output)
        check(torch.from_dlpack(out.last_hidden_state), expected.last_hidden_state)


def test_what_does_not_fit(on_cpu: pyft.Model, on_gpu: pyft.Model) -> None:
    given = torch.zeros(1, 3, WIDTH, device="cuda")
    with pytest.raises(pyft.UnsupportedError, match=r"inputs_embeds lies on cuda:0.*the CPU"):
        on_cpu.forward(inputs_embeds=given)
    with pytest.raises(ValueError, match="float64"):
        on_gpu.forward(inputs_embeds=given.double())
    with pytest.raises(ValueError, match="the model's embeddings have 64"):
        on_gpu.forward(inputs_embeds=given[..., :32])
    with pytest.raises(ValueError, match="output_device"):
        on_gpu.forward([[1, 2]], output_device="toaster")
    assert on_cpu.forward(torch.arange(3, device="cuda")[None]).logits.device == "cpu"  # ids come to the host


def test_a_given_stream(llama_folder: Path, on_cpu: pyft.Model) -> None:
    """Everything is ordered by the caller's stream alone: nothing else is said, and nobody waits."""
    values = embeddings(7, 2, 9)
    expected = on_cpu.forward(inputs_embeds=values)
    stream = torch.cuda.Stream()
    with pyft.load(llama_folder, device="cuda", stream=stream, kv_cache_bytes=64 << 20) as model:
        given = torch.full((2, 9, WIDTH), float("nan"), device="cuda")
        torch.cuda.synchronize()
        unmarked = pyft.from_dlpack(torch.utils.dlpack.to_dlpack(given))  # a bare capsule says nothing of streams
        with torch.cuda.stream(stream):
            slowly(given, values)
            out = model.forward(inputs_embeds=unmarked, output_device="cuda")
            copied = torch.utils.dlpack.from_dlpack(out.logits.__dlpack__(stream=-1)).clone()
        stream.synchronize()
        check(copied, expected.logits)
        prompt = list(range(5, 25))
        ours = model.generate(prompt, max_new_tokens=40, stop_token_ids=[]).token_ids
        assert ours.tolist() == on_cpu.generate(prompt, max_new_tokens=40, stop_token_ids=[]).token_ids.tolist()
    stream.synchronize()  # the stream is the caller's still


def test_default_stream_given(llama_folder: Path, on_cpu: pyft.Model) -> None:
    prompt = list(range(9, 30))
    expected = on_cpu.generate(prompt, max_new_tokens=30, stop_token_ids=[]).token_ids.tolist()
    with pyft.load(llama_folder, device="cuda", stream=1, kv_cache_bytes=64 << 20) as model:
        assert model.generate(prompt, max_new_tokens=30, stop_token_ids=[]).token_ids.tolist() == expected
    for wrong, message in ((0, "default stream"), (2, "per-thread"), (-1, "default stream")):
        with pytest.raises(ValueError, match=message):
            pyft.load(llama_folder, device="cuda", stream=wrong)


def test_forward_while_steps_are_recorded(llama_folder: Path, on_cpu: pyft.Model) -> None:
    """Tensors come and go while another thread's steps are recorded as graphs on the model's stream."""
    values = embeddings(8, 1, 4)
    expected = on_cpu.forward(inputs_embeds=values).logits
    prompts = [list(range(3, 5 + n)) for n in range(24)]
    tokens = [on_cpu.generate(p, max_new_tokens=24, stop_token_ids=[]).token_ids.tolist() for p in prompts]
    with pyft.load(llama_folder, device="cuda", kv_cache_bytes=64 << 20) as model:
        found: list[object] = []

        def generate() -> None:
            try:
                for batch in range(1, 9):  # each batch size is recorded anew
                    made = model.generate(prompts[: batch * 3], max_new_tokens=24, stop_token_ids=[])
                    found.append([g.token_ids.tolist() for g in made] == tokens[: batch * 3])
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=generate)
        thread.start()
        given = torch.from_numpy(values).cuda()
        rounds = 0
        while thread.is_alive() or rounds == 0:
            check(torch.from_dlpack(model.forward(inputs_embeds=given).logits), expected)
            rounds += 1
        thread.join()
    assert found == [True] * 8


@pytest.mark.parametrize("package", ["cupy", "jax.dlpack"])
def test_other_consumers(on_gpu: pyft.Model, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of the memory
    consumer = pytest.importorskip(package)
    logits = on_gpu.forward(torch.arange(10, device="cuda")[None]).logits
    taken = consumer.from_dlpack(logits)
    np.testing.assert_array_equal(np.asarray(taken.get() if hasattr(taken, "get") else taken), logits.cpu().numpy())


def test_the_programs_gpu_stays_chosen(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2 or len(pyft.devices()) < 3:
        pytest.skip("one GPU")
    folder = write_llama(tmp_path / "llama")
    prompt = list(range(4, 14))
    expected = pyft.load(folder, device="cpu", threads=1).generate(prompt, max_new_tokens=8).token_ids.tolist()
    torch.cuda.set_device(0)
    torch.zeros(1, device="cuda")
    with pyft.load(folder, device="cuda:1", kv_cache_bytes=16 << 20) as model:
        assert model.generate(prompt, max_new_tokens=8).token_ids.tolist() == expected
        logits = model.forward([prompt], output_device="cuda:1").logits
        assert torch.cuda.current_device() == 0 and torch.from_dlpack(logits).device.index == 1
        with pytest.raises(ValueError, match="cuda:1"):
            model.forward([prompt], output_device="cuda:0")
        with pytest.raises(pyft.UnsupportedError, match=r"cuda:0.*cuda:1"):
            model.forward(inputs_embeds=torch.zeros(1, 3, WIDTH, device="cuda:0"))
    assert torch.cuda.current_device() == 0


def test_several_models_on_several_gpus_at_once(tmp_path: Path) -> None:
    """Two models on each GPU there is, each driven by a thread of its own, give what each gives alone."""
    folders = [write_llama(tmp_path / str(i), seed=i) for i in range(2)]
    rng = np.random.default_rng()
    prompts = [rng.integers(3, 255, rng.integers(1, 40)).tolist() for _ in range(20)]

    def generate(model: pyft.Model) -> list[list[int]]:
        ways = ({}, {"do_sample": True, "seed": 3}, {"num_beams": 3})
        made = [model.generate(prompts, max_new_tokens=24, stop_token_ids=[], **way) for way in ways]
        return [g.token_ids.tolist() for of_way in made for g in of_way]

    on_cpu = []
    for folder in folders:
        with pyft.load(folder, device="cpu") as model:
            on_cpu.append(generate(model))
    gpus = [d.name for d in pyft.devices() if d.name != "cpu"]
    models = [pyft.load(folder, device=gpu, kv_cache_bytes=32 << 20) for gpu in gpus for folder in folders]
    alone = [generate(model) for model in models]
    for i, found in enumerate(alone):  # but where rounding decides between two tokens
        assert sum(a != b for a, b in zip(found, on_cpu[i % 2], strict=True)) <= len(found) // 10
    together: list[list[list[list[int]]]] = [[] for _ in models]

    def drive(i: int) -> None:
        for _ in range(5):
            together[i].append(generate(models[i]))

    threads = [threading.Thread(target=drive, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        model.close()
    assert together == [[found] * 5 for found in alone]
    assert len(gpus) == torch.cuda.device_count()
