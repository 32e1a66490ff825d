"""What the library logs while a command runs: warnings, on standard error, without times."""

import sys


def log_to_people() -> None:
    """Sends all logs of this process there; standard output is for what was asked for."""
    import structlog  # noqa: PLC0415 - slow, and not for help

    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
    )
