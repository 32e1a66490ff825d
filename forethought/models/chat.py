"""Chat templates: Jinja programs that come with a model and turn messages into its prompt.

They are rendered as transformers does, whose environment the templates are written for: blocks
trimmed, loop controls, `tojson` without HTML escapes, `raise_exception`, `strftime_now`, and a
`generation` block that only marks text for training. Templates are foreign code, so the
environment is the immutable sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from forethought.errors import InvalidArgumentError

Message = tuple[str, str]
"""Role and content."""

CONVERSATION_FIELD = "prompt.conversation"
"""The request's field that template errors are about."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's template and the special tokens that it may name, such as `bos_token`."""

    source: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt for `messages`, up to where the assistant's answer begins.

        Holds the special tokens as text already: encode it without adding any. Raises
        InvalidArgumentError when the template refuses the messages or fails on them.
        """
        try:
            return _compile(self.source).render(
                messages=[{"role": role, "content": content} for role, content in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self.special_tokens,
            )
        except Exception as error:
            # Foreign code: whatever it raises says that these messages do not fit the template.
            raise InvalidArgumentError(
                {CONVERSATION_FIELD: f"the model's chat template refuses it: {error}"}
            ) from error


class _GenerationBlock(jinja2.ext.Extension):
    """Renders what is between `{% generation %}` and `{% endgeneration %}` as it is."""

    tags = {"generation"}  # noqa: RUF012 - declared as an instance variable by the base class

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


@lru_cache(maxsize=8)
def _compile(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates pass it as they do in transformers
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
