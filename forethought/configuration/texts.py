"""Lists of texts, as people write them in flags, variables and files."""

from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import NoDecode


def split_texts(value: Any) -> Any:
    """Parts of a text with commas, also where it is one of several texts.

    Raises ValueError for anything else, such as a number or a table of a file.
    """
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be a text or a list of texts")
    return tuple(part.strip() for text in texts for part in text.split(",") if text)


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_texts)]
"""Comma-separated, or repeated."""
