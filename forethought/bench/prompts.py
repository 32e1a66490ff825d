"""What a benchmark asks."""

import json
from pathlib import Path

from forethought.generation import ChatMessage
from forethought.input_files import read_input

_MEADOW = (
    "The meadow behind the school was cut twice a year, in June and in September. Since last year "
    "it is cut only once, and half of it stays until spring. The class counted butterflies on both "
    "halves every Friday. On the half that stays they found eleven kinds, on the other four. The "
    "caretaker now wants to leave all of it, except for the path to the bus stop."
)
_FUNCTION = """\
def total(items):
    t = 0
    for i in range(len(items)):
        t = t + items[i].price * items[i].count
    if t > 100:
        t = t - t * 0.1
    return t"""
_ORDERS = """\
id,customer,city,amount
1041,Ada Lind,Turku,39.90
1042,Bo Chen,Lyon,120.00
1043,Cai Roth,Graz,18.50
1044,Dee Okoro,Turku,75.25"""

DEFAULT_PROMPTS = (
    "Why is the sky blue during the day and red in the evening?",
    f"Correct the spelling and change nothing else: {_MEADOW.replace('counted', 'conuted')}",
    "Write a short story about a lighthouse keeper who receives a letter meant for someone else.",
    f"Rename the variable t to amount and return the whole function:\n\n{_FUNCTION}",
    "Explain to a ten-year-old how a refrigerator keeps things cold.",
    f"Summarise this text in three sentences: {_MEADOW}",
    "What should I consider before I adopt a dog? Give me a list with reasons.",
    f"Turn these rows into JSON objects with the same field names:\n\n{_ORDERS}",
    "Compare trains and planes for a journey of 800 kilometres.",
    f"Replace every city by its country and repeat the table otherwise unchanged:\n\n{_ORDERS}",
    "Write a polite email that asks a landlord to repair the heating before the winter.",
    f"List all numbers in this text, each with the sentence it stands in: {_MEADOW}",
    "Describe how bread rises, from the flour to the oven.",
    f"Add a docstring and type annotations to this function:\n\n{_FUNCTION}",
    "Write a Python function that returns the longest word of a sentence, and explain it.",
    f"Rewrite this text in the present tense: {_MEADOW}",
)
"""Open questions and edits of a given text take turns.

Speculation lives on what can be guessed. Edits, extraction and code repeat their input and favour
it, stories do not: a set of one kind alone would show one side.
"""


class PromptFileError(ValueError):
    """A file that holds no prompts."""


def load_prompts(path: Path | None) -> list[list[ChatMessage]]:
    """One user's message for each line of the file that is not blank; the default set for None.

    Raises:
        PromptFileError: it cannot be read, or has only blank lines.
    """
    texts = DEFAULT_PROMPTS if path is None else read_prompts(path)
    return [[ChatMessage("user", text)] for text in texts]


def load_kinds(folder: Path) -> dict[str, list[list[ChatMessage]]]:
    """The prompts of each kind: one user's message for each line of KIND.jsonl, kinds by name.

    Raises:
        PromptFileError: there are none, or a file cannot be read or holds something else.
    """
    kinds = {path.stem: _read_kind(path) for path in sorted(folder.glob("*.jsonl"))}
    if not kinds:
        raise PromptFileError(f"{folder} has no files KIND.jsonl")
    return kinds


def _read_kind(path: Path) -> list[list[ChatMessage]]:
    messages = []
    for line in read_prompts(path):
        try:
            text = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str) or not text:
            raise PromptFileError(f'{path} has a line that is not like {{"prompt": "..."}}')
        messages.append([ChatMessage("user", text)])
    return messages


def read_prompts(path: Path) -> list[str]:
    """The lines of a file that are not blank.

    Raises:
        PromptFileError: it cannot be read, or has only blank lines.
    """
    try:
        lines = read_input(path).decode().splitlines()
    except OSError as error:
        raise PromptFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PromptFileError(f"{path} is not UTF-8 from byte {error.start} on") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise PromptFileError(f"{path} has no prompts: a line each is expected")
    return texts
