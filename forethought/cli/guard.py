"""The command line's outermost frame: whatever ends a command is one line and an exit code."""

import contextlib
import errno
import io
import os
import sys
from typing import NoReturn, TextIO

from rich.console import Console

from forethought.cli.failure import in_flags, print_failure
from forethought.cli.logs import log_to_people
from forethought.cli.main import app
from forethought.errors import ForethoughtError
from forethought.extras import describe_missing

_INTERRUPTED = 130
_FAILED = 1


def run_guarded() -> NoReturn:
    """Runs the app and exits with its code.

    Errors that have a name in our terms, those of the operating system and packages that are not
    installed are one line on stderr. What is left is a fault of ours and keeps its traceback.
    """
    _open_closed_streams()
    # UTF-8 whatever the locale: what the shell gave is the same bytes everywhere.
    sys.argv[1:] = [os.fsencode(each).decode(errors="surrogateescape") for each in sys.argv[1:]]
    code: int | str | None
    try:
        app(prog_name="forethought", obj=log_to_people)
        code = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except ForethoughtError as error:
        code = _fail(in_flags(error))
    except ModuleNotFoundError as error:
        missing = describe_missing(error)
        if missing is None:
            raise
        code = _fail(missing)
    except OSError as error:
        code = _fail(describe_os_error(error))
    sys.exit(_flush(code))


def describe_os_error(error: OSError) -> str:
    """The operating system's words, after the file that they are about."""
    words = error.strerror or str(error)
    if error.filename is None:
        return f"cannot write the output: {words}" if error.errno == errno.ENOSPC else words
    return f"{os.fsdecode(error.filename)}: {words}"


def _fail(message: str) -> int:
    with contextlib.suppress(OSError):  # stderr may be what failed
        print_failure(Console(stderr=True), message)
    return _FAILED


def _flush(code: int | str | None) -> int | str | None:
    """The exit code once all is written; Python itself would report a failure as its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _write_no_more(stream)
            if not code:  # nobody has said yet that something went wrong
                is_pipe = error.errno == errno.EPIPE
                code = _FAILED if is_pipe else _fail(describe_os_error(error))
    return code


def _write_no_more(stream: TextIO) -> None:
    """Sends what is left in a stream nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open_closed_streams() -> None:
    """Puts nothing in the place of closed standard streams: the next file to be opened would take
    the number of one, and be written to. Characters that an encoding lacks become '?'."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
