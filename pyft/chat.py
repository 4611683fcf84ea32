"""Chat templates: Jinja programs inside checkpoints, rendered in a sandbox with the names transformers gives them."""

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pyft.errors import CheckpointError

Message = Mapping[str, Any]


class _GenerationBlock(Extension):
    """{% generation %} marks what an assistant said, for training; when rendering it is transparent."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 reads it from the class

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which no chat template means."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


@functools.lru_cache(maxsize=32)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


def render(
    template: str,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Any] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The prompt's text. ValueError when the template refuses the messages, CheckpointError when it is broken."""
    check_messages(messages)
    try:
        compiled = _compiled(template)
    except jinja2.TemplateSyntaxError as error:
        raise CheckpointError(f"the chat template is broken at line {error.lineno}: {error.message}") from None
    names: dict[str, Any] = {**special_tokens, "tools": tools, "documents": None, **(variables or {})}
    try:
        return compiled.render(messages=list(messages), add_generation_prompt=add_generation_prompt, **names)
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template refused the messages: {error.message}") from None


def check_messages(messages: Any) -> None:
    """Messages are dicts with a role, as in transformers."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise TypeError('messages must be a list of {"role": ..., "content": ...}')
    if not messages:
        raise ValueError("messages is empty; give at least one")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise TypeError(f"message {index} must be a dict, not {type(message).__name__}")
        if not isinstance(message.get("role"), str):
            raise ValueError(f'message {index} has no "role"')


def pick(templates: Mapping[str, str], name: str | None, tools: Any) -> str:
    """The template of this name, else "tool_use" when there are tools, else the default or only one."""
    if not templates:
        raise ValueError(
            "this checkpoint has no chat template (chat_template.jinja, tokenizer_config.json or GGUF metadata): "
            "use generate() with a prompt, or chat(..., template=...)"
        )
    if name is not None:
        # A name if there is one of it, else the template itself.
        return templates.get(name, name)
    if tools is not None and "tool_use" in templates:
        return templates["tool_use"]
    if "default" in templates:
        return templates["default"]
    if len(templates) == 1:
        return next(iter(templates.values()))
    raise ValueError(f"several chat templates, none of them the default: name one of {', '.join(sorted(templates))}")
