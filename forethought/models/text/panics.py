"""Panics of Rust code in the `tokenizers` library, as errors.

A panic is a BaseException of a class that cannot be imported. It passes every handler of
exceptions, although it says no more than that a file or a text is not what the library expects.
"""

from collections.abc import Generator
from contextlib import contextmanager


class PanicError(Exception):
    """Rust code gave up."""


@contextmanager
def panics_as_errors() -> Generator[None]:
    """For calls of the library.

    Raises:
        PanicError: one of them panicked. All other exceptions pass.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise PanicError(str(error)) from error
        raise
