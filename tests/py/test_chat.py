"""Chat templates: rendered as transformers renders them, in a sandbox, from every place they are kept in."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from tiny import CHAT_TEMPLATE, write_llama
from transformers import AutoTokenizer

import pyft
from pyft.chat import render

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What's <b>2 & 3</b>?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "Sure? 🙂"},
]

TEMPLATES = [
    CHAT_TEMPLATE,
    "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'user' %}\n  U:"
    "{{ m.content | trim }}\n    {% endif %}\n{% endfor %}",
    "{% for m in messages %}{% if loop.index0 > 1 %}{% break %}{% endif %}{{ m['content'] | tojson }}{% endfor %}",
    "{{ messages | tojson(indent=2) }}{{ tools | tojson }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}{% endfor %}"
    "{{ ns.n }}{{ eos_token }}",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% endif %}{% endfor %}",
    "{%- if add_generation_prompt -%} go {%- endif -%}{{ messages[0]['content'][:2] }}{{ custom }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_equals_transformers(llama: pyft.Model, llama_folder: Path, template: str, add_generation_prompt: bool) -> None:
    theirs = AutoTokenizer.from_pretrained(llama_folder)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    expected = theirs.apply_chat_template(
        MESSAGES,
        chat_template=template,
        tools=tools,
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
        custom="C",
    )
    got = llama.apply_chat_template(
        MESSAGES,
        template=template,
        tools=tools,
        add_generation_prompt=add_generation_prompt,
        template_variables={"custom": "C"},
    )
    assert got == expected


def test_chat_is_generate_of_the_template(llama: pyft.Model) -> None:
    ids = llama.apply_chat_template(MESSAGES, tokenize=True)
    assert ids[0] == 3  # the template's own <|im_start|>, and no <s> before it
    made = llama.chat(MESSAGES, max_new_tokens=5, stop_token_ids=[])
    expected = llama.generate(ids, max_new_tokens=5, stop_token_ids=[])
    assert made.token_ids.tolist() == expected.token_ids.tolist()
    several = llama.chat(MESSAGES, max_new_tokens=2, do_sample=True, num_return_sequences=2, seed=1)
    assert len(several) == 2


def with_settings(folder: Path, **settings: object) -> pyft.Model:
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in written.items() if value is not None}))
    return pyft.load(folder)


def test_named_templates(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    named = [
        {"name": "default", "template": "D"},
        {"name": "tool_use", "template": "T"},
        {"name": "rag", "template": "R"},
    ]
    model = with_settings(folder, chat_template=named)
    assert model.apply_chat_template(MESSAGES) == "D"
    assert model.apply_chat_template(MESSAGES, tools=[{}]) == "T"
    assert model.apply_chat_template(MESSAGES, template="rag") == "R"
    model = with_settings(folder, chat_template=named[1:])
    with pytest.raises(ValueError, match="rag"):
        model.apply_chat_template(MESSAGES)


def test_template_files(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("FILE")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("MORE")
    model = pyft.load(folder)
    assert model.apply_chat_template(MESSAGES) == "FILE"
    assert model.apply_chat_template(MESSAGES, template="rag") == "MORE"


def test_without_a_template(tmp_path: Path) -> None:
    model = with_settings(write_llama(tmp_path / "m"), chat_template=None)
    with pytest.raises(ValueError, match="no chat template"):
        model.chat(MESSAGES)
    assert model.apply_chat_template(MESSAGES, template="{{ messages | length }}") == "4"


def test_what_templates_may_not_do() -> None:
    for template in (
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% set _ = messages.append(1) %}",
        "{{ raise_exception.__globals__['os'] }}",
    ):
        with pytest.raises(ValueError, match="chat template"):
            render(template, MESSAGES, {})
    with pytest.raises(ValueError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", MESSAGES, {})
    with pytest.raises(pyft.CheckpointError, match="line 1"):
        render("{% for %}", MESSAGES, {})


def test_time() -> None:
    assert render("{{ strftime_now('%Y') }}", MESSAGES, {}) == str(datetime.now().year)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ("hello", TypeError),
        ({"role": "user", "content": "x"}, TypeError),
        ([], ValueError),
        (["hello"], TypeError),
        ([{"content": "x"}], ValueError),
        ([{"role": 3, "content": "x"}], ValueError),
        (None, TypeError),
    ],
)
def test_wrong_messages(llama: pyft.Model, messages: object, error: type) -> None:
    with pytest.raises(error):
        llama.chat(messages, max_new_tokens=1)
