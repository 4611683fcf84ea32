"""Models of drawn sizes: widths that fill no vector, one layer or five, every ratio of heads, windows of any length.

The named variants cover what a config can say; these cover the shapes that kernels meet. `-m full` draws many more.
"""

import pytest

from .compare import assert_close, assert_greedy, assert_same
from .pair import draw_prompt

_MANY = [pytest.param(i, marks=pytest.mark.full) for i in range(6, 60)]


def _draw_decoder(rng):
    kv_heads = int(rng.integers(1, 5))
    heads = kv_heads * int(rng.integers(1, 5))
    head_dim = 2 * int(rng.integers(1, 41))
    name = str(rng.choice(["llama-gqa", "llama-biases", "mistral-window", "qwen2", "qwen3", "gemma2"]))
    # Qwen2's heads always share out the hidden size.
    hidden = heads * (head_dim if name == "qwen2" else int(rng.integers(1, 200 // heads + 2)))
    sizes = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": int(rng.integers(1, 300)),
        "num_hidden_layers": int(rng.integers(1, 6)),
        "vocab_size": int(rng.integers(5, 700)),
        "tie_word_embeddings": bool(rng.integers(2)),
    }
    if name != "qwen2":
        sizes["head_dim"] = head_dim
    if name in ("mistral-window", "gemma2"):
        # Not 1: there transformers' cache keeps every token, and its generate differs from its own forward pass.
        sizes["sliding_window"] = int(rng.integers(2, 80))
    return name, sizes


def _draw_gpt(rng):
    """Of the families whose heads share out the hidden size; heads of odd widths where nothing is turned."""
    name = str(rng.choice(["gpt2", "gptj", "gpt-neox", "gpt-neox-sequential", "opt", "opt-350m", "bloom"]))
    heads = int(rng.integers(1, 17))
    head_dim = int(rng.integers(2, 41))
    if name.startswith("gptj") or name.startswith("gpt-neox"):
        head_dim *= 2
    sizes = {
        "hidden_size": heads * head_dim,
        "num_attention_heads": heads,
        "num_hidden_layers": int(rng.integers(1, 5)),
        "vocab_size": int(rng.integers(5, 700)),
        "tie_word_embeddings": bool(rng.integers(2)),
    }
    if name != "bloom":
        sizes["intermediate_size"] = int(rng.integers(1, 300))
    turned = 2 * int(rng.integers(1, head_dim // 2 + 1))
    if name == "gptj":
        sizes["rotary_dim"] = turned
    if name.startswith("gpt-neox"):
        part = (turned + 0.5) / head_dim if turned < head_dim else 1.0  # its product is rounded down
        sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": part}
    if name == "opt-350m":
        sizes["word_embed_proj_dim"] = int(rng.integers(1, 100))
    return name, sizes


@pytest.mark.parametrize("draw", [*range(6), *_MANY])
@pytest.mark.parametrize("draw_sizes", [_draw_decoder, _draw_gpt], ids=["llama-line", "gpt-line"])
def test_decoder(tiny, rng, draw, draw_sizes):
    name, sizes = draw_sizes(rng)
    pair = tiny(name, tag=str(draw), **sizes)
    what = f"{name} {sizes}"
    for length in rng.integers(1, 130, 2):
        ids = draw_prompt(rng, sizes["vocab_size"], int(length), int(length))
        assert_close(pair.ft.forward([ids]).logits.numpy()[0], pair.hf_forward(ids)["logits"], f"{what}: {length}")
    prompts = [draw_prompt(rng, sizes["vocab_size"]) for _ in range(3)]
    for prompt, ours in zip(prompts, pair.ft.generate(prompts, max_new_tokens=24, stop_token_ids=[]), strict=True):
        reference = pair.hf_greedy(prompt, 24)
        assert_greedy(ours.token_ids, reference.tokens, reference.scores, what)


@pytest.mark.parametrize("draw", [*range(4), *_MANY])
def test_encoder(tiny, rng, draw):
    heads = int(rng.integers(1, 9))
    name = str(rng.choice(["bert", "bert-mlm", "bert-token", "roberta", "roberta-sequence"]))
    sizes = {
        "hidden_size": heads * int(rng.integers(1, 40)) * 2,
        "num_attention_heads": heads,
        "intermediate_size": int(rng.integers(1, 300)),
        "num_hidden_layers": int(rng.integers(1, 6)),
        "vocab_size": int(rng.integers(5, 700)),
    }
    pair = tiny(name, tag=str(draw), **sizes)
    rows = [draw_prompt(rng, sizes["vocab_size"], 1, 120) for _ in range(4)]
    together = pair.ft.forward(rows)
    for r, row in enumerate(rows):
        for output, expected in pair.hf_forward(row).items():
            found = getattr(together, output).numpy()[r]
            found = found[: len(row)] if found.ndim == 2 else found
            assert_close(found, expected, f"{name} {sizes} {output}")
            alone = getattr(pair.ft.forward([row]), output).numpy()[0]
            assert_same(found, alone)
