"""The command line of a process: its flags with placeholders and defaults that a user knows.

pydantic would name Python's types there, such as `SecretStr`.
"""

from argparse import ArgumentParser
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import ByteSize, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsError

_BY_NAME = {
    "listen": "HOST:PORT",
    "admin_listen": "HOST:PORT",
    "device": "NAME",
    "draft": "HOST:PORT,...",
    "target": "HOST:PORT,...",
    "lookup": "NAME,...",
    "orchestrator": "HOST:PORT,...",
    "served_model_name": "NAME,...",
    "model": "REF",
    "target_vocabulary": "REF",
}
_BY_TYPE = {Path: "FILE", ByteSize: "SIZE", SecretStr: "TEXT", int: "N", float: "X", str: "TEXT"}
_BY_END = {"_s": "SECONDS", "_prob": "P", "_share": "P", "_url": "URL"}


def metavar(name: str, annotation: Any) -> str:
    """What stands for the value of a setting in its help."""
    for end, word in _BY_END.items():
        if name.endswith(end):
            return word
    if name in _BY_NAME:
        return _BY_NAME[name]
    kind = _without_none(annotation)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(each.value for each in kind)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    if get_origin(kind) in {tuple, list}:
        return f"{metavar('', get_args(kind)[0])},..."
    return _BY_TYPE.get(kind, "VALUE")


def describe_value(value: Any) -> str:
    """A default as a user would write it; empty where there is none."""
    if value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, ByteSize):
        return value.human_readable(separator="")
    if isinstance(value, tuple):
        return ",".join(map(describe_value, value))
    return str(value.value if isinstance(value, Enum) else value)


def command_line_of(
    settings: type[BaseSettings], program: str
) -> CliSettingsSource[ArgumentParser]:
    """The source of settings that reads the command line.

    What it finds wrong is a `SettingsError`.
    """
    parser = _Parser(prog=program, description=settings.__doc__, allow_abbrev=False)
    parser.fields = settings.model_fields
    return CliSettingsSource(
        settings, root_parser=parser, add_argument_method=_Parser.add_argument_of_setting
    )


class _Parser(ArgumentParser):
    fields: Mapping[str, FieldInfo]

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)

    def add_argument_of_setting(self, *names: str, **options: Any) -> Any:
        name = str(options.get("dest"))
        if field := self.fields.get(name):
            if "metavar" in options:
                options["metavar"] = metavar(name, field.annotation)
            options["help"] = _help(field).replace("%", "%%")
        return self.add_argument(*names, **options)


def _help(field: FieldInfo) -> str:
    if field.is_required():
        return f"{field.description} (required)"
    default = describe_value(field.default)
    return f"{field.description} (default: {default})" if default else f"{field.description}"


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in {Union, UnionType}:
        return annotation
    return next(each for each in get_args(annotation) if each is not type(None))


def _choice(values: Any) -> str:
    return f"{{{','.join(map(str, values))}}}"
