"""Generation: prompts of every form, each option's effect, callbacks, cancelling, threads and asyncio."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pyft

PROMPT = "A dam holds the river"


def ids_of(made: pyft.Generation) -> list[int]:
    return made.token_ids.tolist()


def reference_greedy(model: pyft.Model, prompt: list[int], count: int) -> list[int]:
    """The most probable token of a whole forward pass, again and again: no cache, no session."""
    ids = list(prompt)
    for _ in range(count):
        logits = model.forward([ids], outputs="logits").logits.numpy()
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_is_the_argmax_of_forward(llama: pyft.Model) -> None:
    prompt = llama.encode(PROMPT).tolist()
    made = llama.generate(PROMPT, max_new_tokens=20, stop_token_ids=[])
    assert ids_of(made) == reference_greedy(llama, prompt, 20)
    assert made.finish_reason == "length"
    assert made.token_ids.dtype == np.int32
    assert made.text == llama.tokenizer.decode(ids_of(made))
    assert made.score is None
    assert made.logprobs is None


def test_prompts_of_every_form(llama: pyft.Model) -> None:
    options = {"max_new_tokens": 6, "stop_token_ids": []}
    ids = llama.encode(PROMPT)
    expected = ids_of(llama.generate(PROMPT, **options))
    for one in (ids.tolist(), tuple(ids.tolist()), ids, ids.astype(np.int64), torch.tensor(ids), ids.astype(np.uint16)):
        assert ids_of(llama.generate(one, **options)) == expected
    other = llama.encode("She sleeps")
    both = [expected, ids_of(llama.generate(other, **options))]
    for many in ([PROMPT, "She sleeps"], [ids.tolist(), other.tolist()], [ids, torch.tensor(other)], [PROMPT, other]):
        assert [ids_of(made) for made in llama.generate(many, **options)] == both
    square = torch.tensor([ids[:5].tolist(), ids[1:6].tolist()])
    rows = [ids_of(made) for made in llama.generate(square, **options)]
    assert rows == [ids_of(llama.generate(row, **options)) for row in square.tolist()]
    assert llama.generate([], **options) == []


def test_padded_prompts_with_a_mask(llama: pyft.Model) -> None:
    options = {"max_new_tokens": 5, "stop_token_ids": []}
    ids = np.array([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    made = llama.generate(ids, attention_mask=mask, **options)
    assert ids_of(made[0]) == ids_of(llama.generate([5, 6, 7], **options))
    assert ids_of(made[1]) == ids_of(llama.generate(ids[1], **options))


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (None, TypeError),
        (5, (TypeError, ValueError)),
        (b"bytes", TypeError),
        ({"a": 1}, TypeError),
        ([1.5, 2.5], TypeError),
        ([[1.5]], TypeError),
        ([[]], ValueError),
        (np.zeros((0,), int), ValueError),
        (np.zeros((1, 1, 1), int), ValueError),
        ([[1, [2]]], (TypeError, ValueError)),
        ([512], ValueError),
        ([-1], ValueError),
        ([2**40], ValueError),
        (torch.tensor([0.5]), TypeError),
        (["text", 5], (TypeError, ValueError)),
    ],
)
def test_wrong_prompts(llama: pyft.Model, prompt: object, error: type) -> None:
    with pytest.raises(error):
        llama.generate(prompt, max_new_tokens=1)


def test_wrong_masks(llama: pyft.Model) -> None:
    with pytest.raises(ValueError, match="attention_mask"):
        llama.generate(np.ones((1, 3), int), attention_mask=np.ones((1, 4)))
    with pytest.raises(ValueError, match="attention_mask"):
        llama.generate([1, 2], attention_mask=[1, 1])
    with pytest.raises(ValueError, match="no tokens"):
        llama.generate(np.ones((1, 3), int), attention_mask=np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_new_tokens": 0}, ValueError),
        ({"max_new_tokens": -1}, ValueError),
        ({"max_new_tokens": 2**40}, ValueError),
        ({"max_new_tokens": 1.5}, TypeError),
        ({"max_new_tokens": "3"}, TypeError),
        ({"max_new_tokens": True}, TypeError),
        ({"min_new_tokens": -1}, ValueError),
        ({"do_sample": True, "temperature": 0}, ValueError),
        ({"do_sample": True, "temperature": -1.0}, ValueError),
        ({"do_sample": True, "temperature": float("nan")}, ValueError),
        ({"do_sample": True, "temperature": "hot"}, TypeError),
        ({"do_sample": True, "top_k": -1}, ValueError),
        ({"do_sample": True, "top_p": 0.0}, ValueError),
        ({"do_sample": True, "top_p": 1.5}, ValueError),
        ({"do_sample": True, "min_p": 2}, ValueError),
        ({"do_sample": True, "typical_p": 0}, ValueError),
        ({"do_sample": True, "top_p_decay": 0}, ValueError),
        ({"do_sample": True, "top_p": 0.5, "top_p_min": 0.6}, ValueError),
        ({"do_sample": True, "top_p_reset_id": -1}, ValueError),
        ({"repetition_penalty": 0}, ValueError),
        ({"no_repeat_ngram_size": -2}, ValueError),
        ({"num_return_sequences": 2}, ValueError),
        ({"num_return_sequences": 0}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 2**64}, ValueError),
        ({"stop_token_ids": [512]}, ValueError),
        ({"stop_token_ids": ["a"]}, TypeError),
        ({"stop_strings": [""]}, ValueError),
        ({"stop_strings": [3]}, TypeError),
        ({"bad_words": "word"}, TypeError),
        ({"bad_words": [[]]}, ValueError),
        ({"bad_words": [[9999]]}, ValueError),
        ({"logits_processor": 3}, TypeError),
        ({"early_stopping": "maybe"}, ValueError),
        ({"num_beams": 0}, ValueError),
        ({"num_beams": 129}, ValueError),
        ({"num_beams": 4, "num_return_sequences": 5}, ValueError),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, ValueError),
        ({"num_beams": 4, "num_beam_groups": 2}, ValueError),
        ({"num_beams": 4, "diversity_penalty": 1.0}, ValueError),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True}, ValueError),
        ({"num_beam_groups": 2}, ValueError),
        ({"length_penalty": float("nan")}, ValueError),
        ({"logprobs": "all"}, ValueError),
        ({"prefix_allowed_tokens_fn": [1, 2]}, TypeError),
        ({"temprature": 1.0}, TypeError),
    ],
)
def test_wrong_options(llama: pyft.Model, options: dict, error: type) -> None:
    with pytest.raises(error):
        llama.generate(PROMPT, **options)
    with pytest.raises(error):
        llama.stream(PROMPT, **options)  # at once, not at the first piece


def test_sampling_settings_without_sampling_warn(llama: pyft.Model) -> None:
    with pytest.warns(UserWarning, match=r"temperature.*do_sample"):
        llama.generate(PROMPT, temperature=0.5, max_new_tokens=1)


def test_neutral_beam_options_are_taken(llama: pyft.Model) -> None:
    made = llama.generate(
        PROMPT, num_beams=1, num_beam_groups=1, diversity_penalty=0.0, early_stopping=True, max_new_tokens=2
    )
    assert len(made.token_ids) == 2


def test_seeds(llama: pyft.Model) -> None:
    options = {"do_sample": True, "max_new_tokens": 12, "stop_token_ids": []}
    first = ids_of(llama.generate(PROMPT, seed=7, **options))
    assert ids_of(llama.generate(PROMPT, seed=7, **options)) == first
    beside = llama.generate(["the cold water", PROMPT, "He counts"], seed=7, **options)
    assert ids_of(beside[1]) == first
    assert ids_of(llama.generate(PROMPT, seed=8, **options)) != first
    drawn = {tuple(ids_of(llama.generate(PROMPT, **options))) for _ in range(4)}
    assert len(drawn) > 1


def test_several_sequences_use_successive_seeds(llama: pyft.Model) -> None:
    options = {"do_sample": True, "max_new_tokens": 6, "stop_token_ids": []}
    made = llama.generate(PROMPT, num_return_sequences=3, seed=10, **options)
    assert [ids_of(one) for one in made] == [
        ids_of(llama.generate(PROMPT, seed=seed, **options)) for seed in (10, 11, 12)
    ]
    nested = llama.generate([PROMPT, "She"], num_return_sequences=2, seed=10, **options)
    assert [len(group) for group in nested] == [2, 2]
    assert ids_of(nested[0][1]) == ids_of(made[1])


def test_top_k_of_one_is_greedy(llama: pyft.Model) -> None:
    greedy = ids_of(llama.generate(PROMPT, max_new_tokens=8, stop_token_ids=[]))
    sampled = llama.generate(PROMPT, max_new_tokens=8, stop_token_ids=[], do_sample=True, top_k=1, seed=3)
    assert ids_of(sampled) == greedy


def test_stop_tokens(llama: pyft.Model) -> None:
    free = ids_of(llama.generate(PROMPT, max_new_tokens=10, stop_token_ids=[]))
    third = next(i for i, token in enumerate(free) if i >= 2 and token not in free[:i])
    for stop in ([free[third]], free[third], np.array([free[third]])):
        made = llama.generate(PROMPT, max_new_tokens=10, stop_token_ids=stop)
        assert ids_of(made) == free[: third + 1]
        assert made.finish_reason == "stop"
    longer = llama.generate(PROMPT, max_new_tokens=10, stop_token_ids=[free[third]], min_new_tokens=third + 3)
    assert len(longer.token_ids) >= third + 3
    assert free[third] not in ids_of(longer)[: third + 2]


def test_stop_strings_stay_in_the_text(llama: pyft.Model) -> None:
    free = llama.generate(PROMPT, max_new_tokens=24, stop_token_ids=[])
    middle = free.text[len(free.text) // 2 : len(free.text) // 2 + 3]
    at = free.text.index(middle)
    made = llama.generate(PROMPT, max_new_tokens=24, stop_token_ids=[], stop_strings=["never ever", middle])
    assert made.finish_reason == "stop"
    assert free.text.startswith(made.text.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert made.text.index(middle) == at
    # It ends with the token that completes the string, and not later.
    assert middle not in llama.tokenizer.decode(ids_of(made)[:-1])


def test_bad_words(llama: pyft.Model) -> None:
    free = ids_of(llama.generate(PROMPT, max_new_tokens=6, stop_token_ids=[]))
    banned = llama.generate(PROMPT, max_new_tokens=6, stop_token_ids=[], bad_words=[[free[0]]])
    assert free[0] not in ids_of(banned)
    pair = llama.generate(PROMPT, max_new_tokens=6, stop_token_ids=[], bad_words=[free[:2]])
    assert ids_of(pair)[0] == free[0]
    assert ids_of(pair)[:2] != free[:2]
    text = llama.generate(PROMPT, max_new_tokens=30, stop_token_ids=[], bad_words=["e"]).token_ids
    assert llama.encode_plain("e")[0] not in text


def test_penalties_and_ngrams(llama: pyft.Model) -> None:
    base = {"max_new_tokens": 40, "stop_token_ids": []}
    free = ids_of(llama.generate(PROMPT, **base))
    for option in ({"presence_penalty": 50.0}, {"frequency_penalty": 50.0}, {"no_repeat_ngram_size": 1}):
        made = ids_of(llama.generate(PROMPT, **base, **option))
        assert len(set(made)) == len(made), option
    assert ids_of(llama.generate(PROMPT, **base, repetition_penalty=1.0)) == free
    assert ids_of(llama.generate(PROMPT, **base, repetition_penalty=5.0)) != free


def test_logprobs_and_score(llama: pyft.Model) -> None:
    made = llama.generate(PROMPT, max_new_tokens=7, stop_token_ids=[], logprobs=True, length_penalty=2.0)
    ids = [*llama.encode(PROMPT).tolist(), *ids_of(made)]
    logits = torch.tensor(llama.forward([ids]).logits.numpy()[0])
    expected = torch.log_softmax(logits.double(), -1)
    start = len(ids) - 7
    expected = np.array([expected[start + i - 1, ids[start + i]] for i in range(7)])
    assert made.logprobs.dtype == np.float32
    np.testing.assert_allclose(made.logprobs, expected, atol=1e-4)
    assert made.score == pytest.approx(made.logprobs.sum() / 7**2, rel=1e-5)


def test_length_ends_at_the_last_position(llama: pyft.Model) -> None:
    made = llama.generate(list(range(5, 250)), max_new_tokens=1000, stop_token_ids=[])
    assert made.finish_reason == "length"
    assert 245 + len(made.token_ids) in (256, 257)


def test_logits_processor_in_place_and_returned(llama: pyft.Model) -> None:
    prompt = llama.encode(PROMPT).tolist()
    seen = []

    def force(token_ids: np.ndarray, logits: np.ndarray) -> None:
        seen.append(token_ids.tolist())
        assert logits.shape == (512,)
        assert logits.dtype == np.float32
        logits[:] = -1e9
        logits[100 + len(seen)] = 0

    made = llama.generate(PROMPT, max_new_tokens=3, stop_token_ids=[], logits_processor=force)
    assert ids_of(made) == [101, 102, 103]
    assert seen == [prompt, [*prompt, 101], [*prompt, 101, 102]]

    def replace(token_ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        changed = np.zeros_like(logits)
        changed[42] = 1
        return changed

    made = llama.generate(PROMPT, max_new_tokens=2, stop_token_ids=[], logits_processor=replace)
    assert ids_of(made) == [42, 42]


@pytest.mark.parametrize("settings", [{}, {"do_sample": True, "top_k": 0, "seed": 4}, {"num_beams": 3}])
def test_log_probabilities_are_the_same_whoever_computes_them(llama: pyft.Model, settings: dict) -> None:
    """Of a token that is generated, greedily, drawn or by beams, and of the same token in a prompt: to the bit."""
    prompt = llama.encode(PROMPT).tolist()
    made = llama.generate(prompt, max_new_tokens=20, stop_token_ids=[], logprobs=True, **settings)
    whole = llama.generate([*prompt, *made.token_ids], max_new_tokens=1, prompt_logprobs=True)
    assert np.array_equal(made.logprobs, whole.prompt_logprobs[len(prompt) :])
    processed = llama.generate(prompt, max_new_tokens=20, stop_token_ids=[], logprobs="processed", **settings)
    assert np.array_equal(processed.token_ids, made.token_ids)
    if "do_sample" not in settings:  # where nothing processes them
        assert np.array_equal(processed.logprobs, made.logprobs)


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.9},
        {"top_p": 0.9, "temperature": 0.2},
        {"min_p": 0.3},
        {"top_k": 20, "typical_p": 0.8},
        {"temperature": 0.5, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    ],
)
def test_sampling_is_the_same_whether_or_not_someone_looks(llama: pyft.Model, settings: dict) -> None:
    """From a few logits, or from all where these do not hold what may be drawn: a processor wants to see all."""
    prompts = [llama.encode(PROMPT).tolist(), [5, 6, 7], [9]]
    common = {"max_new_tokens": 40, "stop_token_ids": [], "do_sample": True, "seed": 11, **settings}
    if "top_k" not in settings:
        common["top_k"] = 0
    alone = llama.generate(prompts, **common)
    looked_at = llama.generate(prompts, logits_processor=lambda token_ids, logits: None, **common)
    assert [ids_of(g) for g in alone] == [ids_of(g) for g in looked_at]


def test_a_processor_sees_the_librarys_own_logits(llama: pyft.Model) -> None:
    """Nothing is copied: prompts that one step computes have neighbouring rows of one matrix."""
    seen: dict[int, list[int]] = {}

    def look(token_ids: np.ndarray, logits: np.ndarray) -> None:
        assert not logits.flags.owndata
        assert logits.flags.writeable
        seen.setdefault(int(token_ids[0]), []).append(logits.ctypes.data)

    steps = 20
    llama.generate([[5, 6], [7, 8], [9, 10]], max_new_tokens=steps, stop_token_ids=[], logits_processor=look)
    first, second, third = (np.array(seen[token]) for token in (5, 7, 9))
    row = 512 * np.dtype(np.float32).itemsize
    assert ((second - first == row) & (third - second == row)).all()
    assert len(first) == steps


def test_a_processor_keeps_token_ids_but_no_logits(llama: pyft.Model) -> None:
    kept = []
    llama.generate(PROMPT, max_new_tokens=2, logits_processor=lambda ids, logits: kept.append((ids, logits.copy())))
    assert all(np.isfinite(logits).all() and ids.size for ids, logits in kept)
    views: list[object] = []
    for keep in (
        lambda ids, logits: views.append(logits),
        lambda ids, logits: views.append(memoryview(logits[3:])),
    ):
        with pytest.raises(pyft.Error, match=r"keep logits.copy\(\)"):
            llama.generate(PROMPT, max_new_tokens=2, logits_processor=keep)

    def cycle(token_ids: np.ndarray, logits: np.ndarray) -> None:  # a mere cycle, which nobody holds, is no fault
        held: list[object] = [logits]
        held.append(held)

    assert llama.generate(PROMPT, max_new_tokens=2, stop_token_ids=[], logits_processor=cycle).token_ids.size == 2


def test_constraint_forced_tokens_and_processor_in_transformers_order(llama: pyft.Model) -> None:
    settings = {"max_new_tokens": 3, "stop_token_ids": [], "forced_eos_token_id": 9}
    made = llama.generate(PROMPT, prefix_allowed_tokens_fn=lambda prompt, ids: [11], **settings)
    assert ids_of(made) == [11, 11, 9]
    seen = []

    def overrule(token_ids: np.ndarray, logits: np.ndarray) -> None:
        seen.append(np.flatnonzero(np.isfinite(logits)).tolist())
        logits[13] = logits[seen[-1]].max() + 1

    constrained = {"prefix_allowed_tokens_fn": lambda prompt, ids: [11], "logits_processor": overrule}
    made = llama.generate(PROMPT, **constrained, **settings)
    assert ids_of(made) == [13, 13, 13]
    assert seen == [[11], [11], [9]]


def test_exceptions_in_callbacks_reach_the_caller(llama: pyft.Model) -> None:
    def fail(token_ids: np.ndarray, logits: np.ndarray) -> None:
        raise ZeroDivisionError("in the processor")

    with pytest.raises(ZeroDivisionError, match="in the processor"):
        llama.generate([PROMPT, "She"], max_new_tokens=100, logits_processor=fail)
    with pytest.raises(ZeroDivisionError):
        list(llama.stream(PROMPT, max_new_tokens=100, logits_processor=fail))
    with pytest.raises(ValueError, match="shape"):
        llama.generate(PROMPT, max_new_tokens=3, logits_processor=lambda ids, logits: logits[:5])
    assert llama.generate(PROMPT, max_new_tokens=2, stop_token_ids=[]).finish_reason == "length"


def test_what_a_callback_may_call(llama: pyft.Model) -> None:
    """forward() and embed() compute; generating would wait for the step that the callback is part of."""
    seen = []

    def ask(token_ids: np.ndarray, logits: np.ndarray) -> None:
        seen.append(int(llama.forward([token_ids]).logits.numpy()[0, -1].argmax()))
        with pytest.raises(pyft.Error, match="callback"):
            llama.generate([5, 6], max_new_tokens=1)

    made = llama.generate(PROMPT, max_new_tokens=4, stop_token_ids=[], logits_processor=ask)
    assert ids_of(made) == seen


def test_pages_come_back(llama: pyft.Model) -> None:
    llama.generate([PROMPT] * 5, max_new_tokens=5)
    stream = llama.stream(PROMPT, max_new_tokens=200, stop_token_ids=[])
    next(stream)
    assert llama.session().stats()["pages_in_use"] > 0
    stream.close()
    stats = llama.session().stats()
    assert stats["pages_in_use"] == 0
    assert stats["pages_total"] > 0
    assert stats["generated_tokens"] > 0


def test_a_request_too_large_for_the_pages(llama_folder: Path) -> None:
    model = pyft.load(llama_folder, kv_cache_bytes=40_000)
    with pytest.raises(pyft.OutOfMemoryError):
        model.generate(list(range(5, 205)), max_new_tokens=50)
    assert len(model.generate([5, 6], max_new_tokens=2, stop_token_ids=[]).token_ids) == 2


def test_cancel_from_another_thread(llama: pyft.Model) -> None:
    started = threading.Event()

    def slow(token_ids: np.ndarray, logits: np.ndarray) -> None:
        started.set()
        time.sleep(0.01)

    made: list[pyft.Generation] = []
    options = {"max_new_tokens": 200, "stop_token_ids": [], "logits_processor": slow}
    thread = threading.Thread(target=lambda: made.extend(llama.generate([PROMPT, "She"], **options)))
    thread.start()
    assert started.wait(10)
    llama.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert [one.finish_reason for one in made] == ["cancelled", "cancelled"]
    assert len(made[0].token_ids) < 200


def test_threads_share_the_batch_and_agree(llama: pyft.Model) -> None:
    options = {"max_new_tokens": 30, "stop_token_ids": []}
    prompts = [PROMPT, "She sleeps", "the cold water", "He counts: one"]
    alone = [ids_of(llama.generate(prompt, **options)) for prompt in prompts]
    for _ in range(5):
        found: dict[int, list[int]] = {}

        def run(index: int, found: dict[int, list[int]] = found) -> None:
            found[index] = ids_of(llama.generate(prompts[index], **options))

        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [found[index] for index in range(len(prompts))] == alone


def test_the_gil_is_released_while_computing(bert: pyft.Model) -> None:
    """While one thread is inside a pass, another takes turn after turn. Were the lock held, it would get one or two:
    those between the flag and the call."""
    ids = np.random.default_rng(0).integers(5, 100, (2048, 64))
    inside = threading.Event()
    done = threading.Event()

    def compute() -> None:
        inside.set()
        bert.forward(ids, outputs="pooler_output")
        inside.clear()
        done.set()

    thread = threading.Thread(target=compute)
    thread.start()
    turns = 0
    while not done.is_set():
        turns += inside.is_set()
        time.sleep(0.001)
    thread.join()
    assert turns > 10


def test_asyncio(llama: pyft.Model) -> None:
    async def main() -> list[list[int]]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        clock = asyncio.create_task(tick())
        calls = [
            asyncio.to_thread(llama.generate, prompt, max_new_tokens=60, stop_token_ids=[])
            for prompt in (PROMPT, "She")
        ]
        made = await asyncio.gather(*calls)
        clock.cancel()
        assert ticks > 0  # the loop ran meanwhile
        return [ids_of(one) for one in made]

    expected = [ids_of(llama.generate(prompt, max_new_tokens=60, stop_token_ids=[])) for prompt in (PROMPT, "She")]
    assert asyncio.run(main()) == expected


INTERRUPTED = """
import signal, sys, time, pyft
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs are started with it ignored
model = pyft.load(sys.argv[1])
def slow(ids, logits):
    time.sleep(0.02)
    print(".", end="", flush=True)
try:
    model.generate([5, 6, 7], max_new_tokens=240, stop_token_ids=[], logits_processor=slow)
except KeyboardInterrupt:
    again = model.generate([5, 6, 7], max_new_tokens=2, stop_token_ids=[])
    print("interrupted", len(again.token_ids))
"""


def interrupted(script: str, folder: Path, cwd: Path, after: float = 0) -> str:
    """What a child that runs the script prints after its first three dots and Ctrl-C; it is not left running."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], cwd=cwd, env=os.environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.read(3) == "..."
        time.sleep(after)
        child.send_signal(signal.SIGINT)
        return child.communicate(timeout=20)[0]
    finally:
        child.kill()


def test_keyboard_interrupt(llama_folder: Path, tmp_path: Path) -> None:
    rest = interrupted(INTERRUPTED, llama_folder, tmp_path)
    assert rest.endswith("interrupted 2\n")
    assert rest.count(".") < 100


INTERRUPTED_PLAIN = INTERRUPTED.replace("logits_processor=slow", "").replace(
    "model.generate([5, 6, 7], max_new_tokens=240",
    "print('...', end='', flush=True)\n    while True: model.generate([[5, 6, 7]] * 32, max_new_tokens=240",
)


def test_keyboard_interrupt_without_callbacks(llama_folder: Path, tmp_path: Path) -> None:
    assert interrupted(INTERRUPTED_PLAIN, llama_folder, tmp_path, after=0.3).endswith("interrupted 2\n")
