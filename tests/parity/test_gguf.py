"""GGUF files: every architecture in every type, against transformers run on the weights as the file's blocks decode."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

import pyft

from . import gguf_files, models
from .compare import BOUNDS, DEVICE, assert_close, assert_greedy, assert_same_generation, distance
from .conftest import seed_of
from .pair import Pair, draw_prompt

# Quantised weights are multiplied with activations in two 8-bit terms, good to about 2^-15 of the largest of each 32.
# Measured after two layers: 1e-4 to 2e-4 of the largest logit. One term would be at 1e-2 to 6e-2. A GPU expands them
# into float16, or bfloat16 where the file has that beside them.
QUANTISED_BOUND = 1e-3 if DEVICE == "cpu" else BOUNDS["float16"]
FLOAT_BOUNDS = {"F32": BOUNDS["float32"], "F16": BOUNDS["float16"], "BF16": BOUNDS["bfloat16"]}


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    """file(name, kind, ...): a written GGUF file, open in both libraries."""
    made: dict[tuple, Pair] = {}

    def make(name, kind, embedding_kind=None, version=3):
        key = (name, kind, embedding_kind, version)
        if key not in made:
            path = tmp_path_factory.mktemp("gguf") / f"{name}-{kind}.gguf"
            exact = gguf_files.write(name, path, seed_of(*key), kind, embedding_kind, version)
            made[key] = Pair(None, path, exact)
        return made[key]

    return make


def _compare(pair, rng, bound, what, **options):
    ids = draw_prompt(rng, models.VOCAB, 90, 100)
    model = pair.load(**options)
    reference = pair.hf_forward(ids)
    ours = model.forward([ids])
    for output, expected in reference.items():
        assert_close(getattr(ours, output).numpy()[0], expected, f"{what} {output}", bound)
    return model


def _compare_quantised(pair, rng, what):
    """The blocks computed on as they are, or in half precision, and decoded to float32 when that is asked for."""
    model = _compare(pair, rng, QUANTISED_BOUND, what)
    whole = _compare(pair, rng, 1e-4, f"{what} in float32", dtype="float32")
    assert whole.dtype == "float32"
    if DEVICE == "cpu":
        assert model.dtype == model.config.checkpoint_dtype and model.weight_bytes < 0.4 * whole.weight_bytes
    else:
        assert model.dtype == "float16" and model.weight_bytes < 0.6 * whole.weight_bytes


@pytest.mark.parametrize("kind", gguf_files.BLOCK_TYPES)
def test_quantisers_are_near(rng, kind):
    """What the other tests quantise with is a quantisation of the weights it is given."""
    weight = rng.standard_normal((7, 512)).astype(np.float32)
    decoded = gguf.quants.dequantize(gguf_files.quantise(weight, kind), Type[kind])
    assert distance(decoded, weight) < {"4": 0.11, "5": 0.06, "6": 0.03, "8": 0.01}[kind[1]]


@pytest.mark.parametrize("name", gguf_files.FILES)
def test_float32(file, rng, name):
    _compare(file(name, "F32"), rng, 1e-4, name)


@pytest.mark.parametrize("name", ["llama", "qwen2-tied", "qwen3", "gemma3", "bert"])
@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_half_precision(file, rng, name, kind):
    pair = file(name, kind)
    _compare(pair, rng, FLOAT_BOUNDS[kind], f"{name} {kind}")
    _compare(pair, rng, 1e-4, f"{name} {kind} in float32", dtype="float32")


@pytest.mark.parametrize("name", ["llama", "llama-tied", "qwen2", "qwen3", "bert"])
@pytest.mark.parametrize("kind", gguf_files.BLOCK_TYPES)
def test_quantised(file, rng, name, kind):
    _compare_quantised(file(name, kind), rng, f"{name} {kind}")


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "llama-biases"])
@pytest.mark.parametrize("kind", ["Q4_1", "Q6_K"])
def test_quantised_others(file, rng, name, kind):
    _compare_quantised(file(name, kind), rng, f"{name} {kind}")


@pytest.mark.parametrize(("kind", "embedding"), [("Q4_K", "Q6_K"), ("Q4_0", "F16"), ("Q5_K", "BF16"), ("F16", "Q8_0")])
def test_mixed_types(file, rng, kind, embedding):
    """As real files are: the embedding in another type than the layers."""
    bound = max(QUANTISED_BOUND, *(FLOAT_BOUNDS.get(k, 0) for k in (kind, embedding)))
    _compare(file("llama-tied", kind, embedding), rng, bound, f"{kind} with {embedding}")


@pytest.mark.parametrize("kind", ["F32", "Q4_0", "Q6_K"])
def test_version_2(file, rng, kind):
    pair = file("llama", kind, version=2)
    assert pair.folder.read_bytes()[4:8] == b"\x02\0\0\0"
    _compare(pair, rng, 1e-4 if kind == "F32" else QUANTISED_BOUND, f"version 2 {kind}")


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_greedy_in_float32(file, rng, name):
    pair = file(name, "Q5_K")
    model = pair.load(dtype="float32")
    prompts = [draw_prompt(rng, models.VOCAB) for _ in range(3)]
    for prompt, ours in zip(prompts, model.generate(prompts, max_new_tokens=64, stop_token_ids=[]), strict=True):
        reference = pair.hf_greedy(prompt, 64)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, f"{name} dequantised")


@pytest.mark.parametrize("kind", gguf_files.BLOCK_TYPES)
def test_quantised_rows_do_not_depend_on_the_batch(file, rng, kind):
    model = file("llama", kind).ft
    prompts = [draw_prompt(rng, models.VOCAB, 1, 50) for _ in range(6)]
    settings = {"max_new_tokens": 16, "stop_token_ids": [], "logprobs": True}
    together = model.generate(prompts, **settings)
    for prompt, ours in zip(prompts, together, strict=True):
        alone = model.generate(prompt, **settings)
        assert_same_generation(alone, ours, QUANTISED_BOUND)


def test_unknown_type_is_refused(file, tmp_path):
    """A type that is not computed on (here Q2_K) is named, not misread."""
    path = tmp_path / "q2.gguf"
    data = bytearray(file("llama", "Q4_K").folder.read_bytes())
    reader = gguf.GGUFReader(file("llama", "Q4_K").folder)
    tensor = next(t for t in reader.tensors if t.name == "blk.0.ffn_down.weight")
    place = tensor.field.offset + 8 + len(tensor.name) + 4 + 2 * 8  # name, dimension count, dimensions, then the type
    assert data[place : place + 4] == int(Type.Q4_K).to_bytes(4, "little")
    data[place : place + 4] = int(Type.Q2_K).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(pyft.Error, match=r"blk\.0\.ffn_down\.weight"):
        pyft.load(str(path), device="cpu")
