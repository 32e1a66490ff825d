"""What pydantic finds wrong with settings, in the words of who wrote them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from forethought.configuration.removed import removed_flag, removed_key
from forethought.configuration.suggestions import suggest
from forethought.configuration.variables import CONFIG_VARIABLE

_RULES = {
    "greater_than_equal": "must be {ge:g} or more",
    "greater_than": "must be above {gt:g}",
    "less_than_equal": "must be {le:g} or less",
    "less_than": "must be below {lt:g}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number, and none so large",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "byte_size": "must be a size such as 512MiB or 4GiB",
    "byte_size_unit": "must be a size such as 512MiB or 4GiB",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a process took its settings from."""

    section: str
    prefix: str  # of its environment variables
    fields: Mapping[str, FieldInfo]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    file: Path | None
    in_file: Mapping[str, Any]

    def variable(self, name: str) -> str:
        """The environment variable of a setting."""
        return f"{self.prefix}{name}".upper()


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def complain(problem: ErrorDetails, origin: Origin) -> str:
    """One line: where the value stands, the value, and what is right."""
    if not problem["loc"]:
        return describe_rule(problem)  # of several settings, which it names
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return (
            f"{flag_of(name)} is missing: give that flag, the environment variable "
            f"{origin.variable(name)}, or {name} in [{origin.section}] of the file that "
            f"{CONFIG_VARIABLE} names"
        )
    if problem["type"] == "extra_forbidden":
        if removed := removed_key(origin.section, name):
            return f"{origin.file}: {removed}"
        meant = suggest(name, origin.fields)
        return f"{origin.file}: there is no setting {name} in [{origin.section}]{meant}"
    value = "" if _is_secret(origin.fields.get(name)) else _shown(problem["input"])
    return f"{_place(name, value, origin)}: {describe_rule(problem)}"


def complain_of_command_line(message: str, origin: Origin) -> str:
    """What argparse says, with the flag that was meant."""
    unknown = re.match("unrecognized arguments: (.*)", message)
    if unknown:
        word = unknown[1].split()[0]
        if not word.startswith("-"):
            return f"{word!r} is no flag, and there is nothing but flags; see --help"
        flag = word.partition("=")[0]
        if removed := removed_flag(origin.section, flag):
            return removed
        meant = suggest(flag, map(flag_of, origin.fields))
        return f"there is no flag {word}{meant or '; see --help'}"
    no_value = re.match("argument (.*): expected (?:one|at least one) argument", message)
    return f"{no_value[1]} has no value" if no_value else message


def _place(name: str, value: str, origin: Origin) -> str:
    flag = flag_of(name)
    words = [word.partition("=")[0] for word in origin.arguments]
    given = {variable.upper() for variable in origin.environment}
    if flag in words or f"--no-{flag[2:]}" in words:
        return f"{flag} {value}".rstrip()
    if origin.variable(name) in given:
        return f"{origin.variable(name)}={value}" if value else origin.variable(name)
    if name in origin.in_file:
        equals = f" = {value}" if value else ""
        return f"{name}{equals} in [{origin.section}] of {origin.file}"
    return flag  # a default that does not go with another setting


def describe_rule(problem: ErrorDetails) -> str:
    """What is right instead."""
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(context["error"])
    if problem["type"] in {"literal_error", "enum"}:
        return f"must be {context['expected'].replace(chr(39), '')}"
    if rule := _RULES.get(problem["type"]):
        return rule.format(**context)
    return "is not what this setting takes; see --help"


def _is_secret(field: FieldInfo | None) -> bool:
    return field is not None and SecretStr in (
        field.annotation,
        *getattr(field.annotation, "__args__", ()),
    )


def describe_problems(error: ValidationError) -> str:
    """The values of an option of the command line, and what is right."""
    return "; ".join(
        describe_rule(problem)
        if problem["type"] == "value_error"
        else f"{_shown(problem['input'])} {describe_rule(problem)}"
        for problem in error.errors()
    )


def _shown(value: Any) -> str:
    several = isinstance(value, list | tuple)
    text = ",".join(map(str, value)) if several else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
