"""Commands that are imported when they run, so that `--help` and a mistyped name cost nothing."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from forethought.errors import ForethoughtError
from forethought.extras import describe_missing_of


@dataclass(frozen=True, slots=True)
class CommandSource:
    """Where a command is, and its line in the list of commands."""

    path: str
    """`module:name` of a function with typer's annotations, or of a `typer.Typer`."""
    help: str
    extra: str = ""
    """Of `pip install`, without which it can do nothing."""


class NotInstalledError(ForethoughtError):
    """A command needs what is not installed."""

    reason = "NOT_INSTALLED"


class LazyCommand(TyperCommand):
    """A command's name and line of help, and the command itself once somebody needs it."""

    def __init__(self, name: str, source: CommandSource) -> None:
        super().__init__(name=name, help=source.help)
        self._path, self._extra = source.path, source.extra

    @cached_property
    def loaded(self) -> TyperCommand | TyperGroup:
        """The command, imported now. Raises NotInstalledError where its extra is missing."""
        if self._extra and (problem := describe_missing_of(self._extra)):
            raise NotInstalledError(problem)
        module, _, attribute = self._path.partition(":")
        found: Callable[..., Any] | typer.Typer = getattr(import_module(module), attribute)
        app = found
        if not isinstance(app, typer.Typer):
            app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            app.command(name=self.name)(found)
        command = get_command(app)
        assert isinstance(command, TyperCommand | TyperGroup)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """The context of the command itself: it parses the arguments and runs. Logging is
        prepared by the object of the context before it, if there is one."""
        command = self.loaded
        parent = kwargs.get("parent")
        if parent is not None and parent.obj is not None and isinstance(command, TyperCommand):
            parent.obj()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return command.make_context(*args, **kwargs)
        except typer.BadParameter as error:
            error.message = _in_our_words(error)
            raise
        except typer.TyperException as error:
            if flag := getattr(error, "option_name", ""):  # there is none such
                self._explain_removed(error, flag)
            raise

    def _explain_removed(self, error: Any, flag: str) -> None:
        """Lets the error say what replaces a removed option of those that say what to start."""
        from forethought.configuration.removed import removed_flag  # noqa: PLC0415 - for errors

        says_what_to_start = {"draft_model", "lookup"} <= {each.name for each in self.loaded.params}
        if says_what_to_start and (removed := removed_flag("up", flag)):
            error.message, error.possibilities = removed, None


def _in_our_words(error: typer.BadParameter) -> str:
    """What is wrong with an option; typer says it in the words of pydantic."""
    from pydantic import ValidationError  # noqa: PLC0415 - for errors alone

    from forethought.configuration.complaints import describe_problems  # noqa: PLC0415

    cause = error.__cause__
    return describe_problems(cause) if isinstance(cause, ValidationError) else error.message


def lazy_group(sources: Mapping[str, CommandSource]) -> type[TyperGroup]:
    """The class of a group with these commands."""

    class LazyGroup(TyperGroup):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            for name, source in sources.items():
                self.add_command(LazyCommand(name, source))

    return LazyGroup
