"""Structured logs: constant event names, ids as fields, no prompts or tokens above debug."""

import logging
from enum import StrEnum
from io import TextIOBase
from typing import TextIO

import structlog

from forethought.runtime.log_output import standard_error

_log = structlog.get_logger(__name__)


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


class _Lines:
    """A logger that writes lines. It holds no lock meanwhile, since finalisers log too."""

    def __init__(self, output: TextIO | TextIOBase) -> None:
        self._output = output

    def msg(self, message: str) -> None:
        self._output.write(message + "\n")

    log = debug = info = warn = warning = error = critical = fatal = exception = msg


def _report_dropped(num_lines: int) -> None:
    _log.warning("log_lines_dropped", num_lines=num_lines)


def configure_logging(log_format: LogFormat, level: str = "info") -> None:
    """Sends all logs, those of libraries included, to stderr in one format.

    Where nobody reads it, lines are dropped; who logs never waits.
    """
    output = standard_error(_report_dropped)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(
            colors=output.isatty(),
            # The default shows local variables, prompts among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    closing: list[structlog.typing.Processor] = [renderer]
    if log_format is LogFormat.JSON:
        closing.insert(0, structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, *closing],
        logger_factory=lambda *_: _Lines(output),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *closing],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
