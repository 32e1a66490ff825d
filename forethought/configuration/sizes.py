"""Sizes in bytes, as people write them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize

_WHOLE = re.compile(r"\s*\d*\.?\d+\s*[a-z]*\s*", re.ASCII | re.IGNORECASE)


def _refuse_what_is_behind(value: Any) -> Any:
    """pydantic reads the beginning of a text: 1 byte of "1,5GiB"."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a size such as 512MiB or 4GiB")
    return value


Size = Annotated[ByteSize, BeforeValidator(_refuse_what_is_behind)]
"""A number of bytes, or a text such as 512MiB."""
