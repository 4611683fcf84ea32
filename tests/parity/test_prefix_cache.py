"""Kept pages: a prompt that begins as an earlier one is continued to the same bit, and computes only what is new."""

import pytest

from . import models
from .compare import BOUNDS, INT8, assert_same_generation
from .pair import draw_prompt

PAGE = 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", INT8])
@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window", "gemma3", "qwen2-tied"])
def test_turns_of_a_chat(tiny, rng, name, dtype):
    pair = tiny(name)
    keeping, plain = pair.load(dtype=dtype), pair.load(dtype=dtype, prefix_cache=False)
    history: list[int] = []
    settings = {"max_new_tokens": 24, "stop_token_ids": [], "logprobs": True}
    for turn in range(5):
        question = draw_prompt(rng, models.VOCAB, 5, 30)
        known = (len(history) - 1) // PAGE * PAGE if history else 0
        history += question
        before = keeping.session().stats()
        options = dict(settings)
        if turn % 2:
            options |= {"num_beams": 3}
        ours, expected = keeping.generate(history, **options), plain.generate(history, **options)
        assert_same_generation(ours, expected, BOUNDS[dtype], beams="num_beams" in options)
        after = keeping.session().stats()
        reused = after["prompt_tokens_reused"] - before["prompt_tokens_reused"]
        # The best beam may have ended on pages that its last step did not complete, or left to others.
        assert reused == known or (turn % 2 == 0 and reused <= known), (turn, reused, known)
        assert after["prompt_tokens"] - before["prompt_tokens"] == len(history) - reused
        history += ours.token_ids.tolist()
    assert plain.session().stats()["prompt_tokens_reused"] == 0


def test_requests_with_one_beginning(tiny, rng):
    """A shared system prompt: together and later, the tokens are transformers', and it is computed once."""
    pair = tiny("llama-gqa")
    system = draw_prompt(rng, models.VOCAB, 100, 100)
    prompts = [system + draw_prompt(rng, models.VOCAB, 1, 20) for _ in range(6)]
    model = pair.load(max_tokens_per_step=32)
    made = model.generate(prompts, max_new_tokens=20, stop_token_ids=[])
    for prompt, ours in zip(prompts, made, strict=True):
        assert ours.token_ids.tolist() == pair.hf_greedy(prompt, 20).tokens
    reused = model.session().stats()["prompt_tokens_reused"]
    assert reused >= 5 * (len(system) // PAGE - 2) * PAGE  # whoever starts beside the first computes a chunk itself
    again = model.generate(prompts, max_new_tokens=20, stop_token_ids=[])
    assert [g.token_ids.tolist() for g in again] == [g.token_ids.tolist() for g in made]
    expected = sum((len(prompt) - 1) // PAGE * PAGE for prompt in prompts)
    assert model.session().stats()["prompt_tokens_reused"] - reused == expected


def test_bounded_memory(tiny, rng):
    """No more is kept than prefix_cache_bytes allow, whatever is asked for, and answers stay the same."""
    pair = tiny("llama-gqa")
    plain = pair.load(prefix_cache=False)
    page_bytes = plain.session().stats()["page_bytes"]
    bounded = pair.load(prefix_cache_bytes=7 * page_bytes + 1)
    kept = []
    for _ in range(6):
        prompts = [draw_prompt(rng, models.VOCAB, 30, 90) for _ in range(3)]
        ours, expected = (m.generate(prompts, max_new_tokens=12, stop_token_ids=[]) for m in (bounded, plain))
        assert [g.token_ids.tolist() for g in ours] == [g.token_ids.tolist() for g in expected]
        stats = bounded.session().stats()
        kept.append(stats["pages_kept"])
        assert stats["pages_in_use"] == 0
    assert set(kept) == {7}
