"""Values that do not fit the field of a message."""

from collections.abc import Iterator
from contextlib import contextmanager

from forethought.errors import InvalidArgumentError


@contextmanager
def refusing_misfits(field: str) -> Iterator[None]:
    """For making a message of what a caller gave.

    Raises:
        InvalidArgumentError: a value does not fit its field, such as a text that is no Unicode.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError({field: str(error)}) from error
