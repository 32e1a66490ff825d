"""Lists of texts, as people write them in flags, variables and files."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def split_texts(value: Any) -> Any:
    """Parts of a text with commas, also where it is one of several texts."""
    texts = (value,) if isinstance(value, str) else value
    return tuple(part.strip() for text in texts for part in str(text).split(",") if text)


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_texts)]
"""Comma-separated, or repeated."""
