"""What a probe asks.

Plain texts that a model can only go on with by guessing: few continuations, each with a good share,
which is what a comparison of frequencies wants. They repeat themselves, so that a proposer that
looks its drafts up in the text finds some.
"""

from pathlib import Path

from forethought.bench.prompts import read_prompts
from forethought.generation import ChatMessage

Prompt = str | list[ChatMessage]

DEFAULT_PROMPTS = (
    "00011000100000101001001011111001010100110011100010000101111001001000100110111110",
    "no, yes, no, no, yes, no, no, no, yes, yes, yes, no, no, yes, yes, yes, no, yes, yes, no, yes",
    "6 2 1 3 1 6 3 4 1 5 4 3 4 5 1 4 1 6 2 5 2 1 2 4 3 5 3 5 3 4 1 5 6 3 3 1 4 1 2 3",
)


def load_prompts(path: Path | None, *, raw: bool) -> list[Prompt]:
    """The prompts of a file, a line each; the default set for None, which is always plain text.

    Args:
        path: of the file.
        raw: whether its lines are plain text to go on with, not users' messages.

    Raises:
        PromptFileError: it cannot be read, or has only blank lines.
    """
    if path is None:
        return list(DEFAULT_PROMPTS)
    texts = read_prompts(path)
    return [text if raw else [ChatMessage("user", text)] for text in texts]
