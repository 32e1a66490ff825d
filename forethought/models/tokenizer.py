"""What scripts outside this repository import to read a tokenizer; the home is in `text`."""

from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

__all__ = ["TextTokenizer", "load_tokenizer"]
