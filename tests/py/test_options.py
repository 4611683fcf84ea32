"""Generation options: one table a language, which agree with each other and with the C struct; checks in C alone."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import pyft
from pyft import cli, generation
from pyft._session import NUMBERS
from pyft.options import TABLE, GenerateOptions, Number, Option, Whole

PACKAGE = Path(pyft.__file__).absolute().parent

# A value that each number refuses, and how the message begins. The others take any value.
REFUSED = {
    "max_new_tokens": -7,
    "min_new_tokens": -7,
    "temperature": -7.5,
    "top_k": -7,
    "top_p": -7.5,
    "min_p": -7.5,
    "typical_p": -7.5,
    "top_p_decay": -7.5,
    "top_p_min": -7.5,
    "top_p_reset_id": -7,
    "repetition_penalty": -7.5,
    "presence_penalty": float("inf"),
    "frequency_penalty": float("inf"),
    "no_repeat_ngram_size": -7,
    "logprobs": 7,
    "num_beams": -7,
    "num_beam_groups": -7,
    "diversity_penalty": -7.5,
    "length_penalty": float("inf"),
    "early_stopping": 7,
    "num_return_sequences": -7,
    "forced_bos_token_id": -7,
    "forced_eos_token_id": -7,
}
ANY = {"do_sample", "seed", "prompt_logprobs"}


def struct_fields(text: str) -> list[str]:
    """The members of ft_generate_options as a header or Cython's declaration of it writes them."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.findall(r"^\s+(?:const )?\w+ \*?(\w+);? *$", text, flags=re.MULTILINE)


def test_every_field_of_the_struct_is_known() -> None:
    header = (Path(pyft.get_include()) / "ft" / "generate.h").read_text()
    body = re.search(r"typedef struct ft_generate_options \{(.*?)\} ft_generate_options;", header, re.DOTALL)
    declared = (PACKAGE / "_ft.pxd").read_text().partition("ctypedef struct ft_generate_options:\n")[2]
    arrays = struct_fields(declared.partition("\n\n")[0] + "\n")
    assert len(arrays) > 10
    assert sorted(struct_fields(body[1])) == sorted(["struct_size", *NUMBERS, *arrays])


def test_both_tables_have_the_same_numbers() -> None:
    assert sorted(NUMBERS) == sorted(name for name, option in TABLE.items() if isinstance(option, Number))
    assert sorted(NUMBERS) == sorted({*REFUSED, *ANY})
    assert set(TABLE) <= set(GenerateOptions.__annotations__)


@pytest.mark.parametrize("name", REFUSED)
def test_each_number_reaches_its_field(llama: pyft.Model, name: str) -> None:
    value = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value}; it must be ")):
        llama.session().check([5, 6], {name: value})
    if isinstance(TABLE[name], Whole) and TABLE[name].low < 0:  # the message is the same whoever asks
        with pytest.raises(ValueError, match=re.escape(f"{name} is {value}; it must be ")):
            llama.generate([5, 6], **{name: value})


def test_settings_that_contradict_each_other(llama: pyft.Model) -> None:
    for options, message in (
        ({"num_beams": 4, "num_beam_groups": 2}, "num_beam_groups is 2 with a diversity_penalty of 0"),
        ({"num_beams": 4, "diversity_penalty": 1.5}, "diversity_penalty is 1.5, which acts between groups"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens is 9; it must be between 0 and max_new_tokens"),
        ({"top_p": 0.5, "top_p_min": 0.625, "do_sample": True}, "top_p_min is 0.625; it must be between 0 and top_p"),
    ):
        for call in (llama.generate, llama.stream):
            with pytest.raises(ValueError, match=re.escape(message)):
                call([5, 6], **options)


def test_temperature_zero_is_greedy_and_no_distribution(
    llama: pyft.Model, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = llama.generate([5, 6], max_new_tokens=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = llama.generate([5, 6], max_new_tokens=8, temperature=0)
    assert np.array_equal(made.token_ids, expected.token_ids)
    beams = {"num_beams": 3, "max_new_tokens": 8}
    made, expected = (llama.generate([5, 6], **beams, **more) for more in ({"temperature": 0.0}, {}))
    assert np.array_equal(made.token_ids, expected.token_ids)
    message = "temperature is 0; it must be greater than 0 where do_sample draws tokens"
    with pytest.raises(ValueError, match=message):
        llama.generate([5, 6], do_sample=True, temperature=0)
    arguments = ["generate", str(llama_folder), "--prompt", "A", "--temperature", "0", "--max-new-tokens", "1"]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--do-sample"]) == 1
    assert message in capsys.readouterr().err


def test_the_command_line_has_every_option(llama_folder: Path) -> None:
    """Under its name, with a value that reaches generate()."""
    words = {"early_stopping": "never", "bad_words": "a", "stop_strings": "a", "stop_token_ids": "3"}
    for name, option in TABLE.items():
        flag = option.flag or "--" + name.replace("_", "-")
        takes_value = option.argument().get("action") != "store_true"
        given = [flag, words.get(name, "1")] if takes_value else [flag]
        parsed = cli.parser().parse_args(["generate", str(llama_folder), *given])
        assert cli.generation_options(parsed)[name] in (True, 1, "never", ["a"], [3]), name
    assert all(isinstance(option, Option) for option in TABLE.values())


def test_a_stream_fetches_new_tokens_only(llama: pyft.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are, however many pieces they come in: not all of them again for each."""
    fetched: list[int] = []

    class Counted:
        def __init__(self, request: object) -> None:
            self.request = request

        def tokens(self, first: int = 0) -> np.ndarray:
            found = self.request.tokens(first)
            fetched.append(len(found))
            return found

        def __getattr__(self, name: str) -> object:
            return getattr(self.request, name)

    submit = generation._Batch.submit
    monkeypatch.setattr(generation._Batch, "submit", lambda *arguments: Counted(submit(*arguments)))
    stream = llama.stream([5, 6, 7], max_new_tokens=200, stop_token_ids=[])
    text = "".join(stream)
    assert text == stream.generation.text
    assert len(fetched) >= 100
    assert sum(fetched) == len(stream.generation.token_ids) == 200


def test_tokens_from(llama: pyft.Model) -> None:
    session = llama.session()
    request = session.submit([5, 6, 7], {"max_new_tokens": 9, "stop_token_ids": []})
    session.wait(lambda: request.finish_reason() is not None)
    tokens = request.tokens()
    assert len(tokens) == request.count() == 9
    for first in (0, 1, 8, 9, 10, 2**40):
        assert np.array_equal(request.tokens(first), tokens[first:])
