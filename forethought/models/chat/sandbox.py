"""Where chat templates run: Jinja as transformers has it, for programs that nobody here wrote.

A template comes with a model file, so it is foreign code. The immutable sandbox keeps it from
Python's insides and from changing what it is given. Time and size are bounded here: every turn of
a loop and every call looks at the clock, the text is counted as it is written, and a number that
makes one value huge ("a" * n, a field width) is refused.
"""

import json
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SECONDS = 5.0
"""Of one rendering. Real templates take milliseconds, even for thousands of messages."""

MAX_CHARS = 64 << 20
"""Of one prompt."""

_MAX_NUMBER = 1_000_000  # in a call, as a factor or as a field width
_WIDE_FIELD = re.compile(r"\d{7,}|%[^a-zA-Z%]*\*")
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class TooSlowError(jinja2.TemplateError):
    """A rendering takes longer than any should."""

    def __init__(self) -> None:
        super().__init__(f"it takes more than {MAX_SECONDS:g} seconds")


def render(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """The template's text. Raises whatever the template raises, TooSlowError for one that takes too
    long, or jinja2.TemplateError for one that writes too much."""
    parts: list[str] = []
    num_chars = 0
    token = _deadline.set(time.monotonic() + MAX_SECONDS)
    try:
        for part in template.generate(**variables):
            parts.append(part)
            num_chars += len(part)
            if num_chars > MAX_CHARS:
                raise jinja2.TemplateError(f"it writes more than {MAX_CHARS} characters")
    finally:
        _deadline.reset(token)
    return "".join(parts)


def compile_template(source: str) -> jinja2.Template:
    """Raises jinja2.TemplateSyntaxError."""
    return _ENVIRONMENT.from_string(source)


def _look_at_the_clock() -> None:
    if time.monotonic() > _deadline.get():
        raise TooSlowError


class _Clocked(NodeTransformer):
    """Puts a look at the clock at the beginning of every loop's body."""

    def visit_For(self, node: jinja2.nodes.For) -> jinja2.nodes.Node:  # noqa: N802 - by class name
        self.generic_visit(node)
        clock = jinja2.nodes.EnvironmentAttribute("look_at_the_clock")
        look = jinja2.nodes.Call(clock, [], [], None, None)
        node.body.insert(0, jinja2.nodes.ExprStmt(look).set_lineno(node.lineno))
        return node


class _GenerationBlock(jinja2.ext.Extension):
    """Renders what is between `{% generation %}` and `{% endgeneration %}`, which marks text for
    training, as it is."""

    tags = {"generation"}  # noqa: RUF012 - declared as an instance variable by the base class

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


class _Environment(ImmutableSandboxedEnvironment):
    """The environment that templates are written for, bounded."""

    intercepted_binops = frozenset(("*", "**", "%"))
    look_at_the_clock = staticmethod(_look_at_the_clock)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        return _Clocked().visit(super()._parse(source, name, filename))  # type: ignore[no-any-return]

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        _look_at_the_clock()
        for value in (*args, *kwargs.values()):
            _refuse_huge(value)
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str) and _WIDE_FIELD.search(left):
            raise jinja2.TemplateError("it writes a field of more than a million characters")
        if operator == "**":
            _refuse_huge(left)
            _refuse_huge(right * 1000 if isinstance(right, int) else right)
        if operator == "*" and not (isinstance(left, int) and isinstance(right, int)):
            _refuse_huge(left)
            _refuse_huge(right)
        return super().call_binop(context, operator, left, right)


def _refuse_huge(value: Any) -> None:
    if isinstance(value, int) and abs(value) > _MAX_NUMBER:
        raise jinja2.TemplateError(f"it makes something of the size {value}")


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


_ENVIRONMENT: "_Environment" = _Environment()
