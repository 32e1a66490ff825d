"""How some user turns begin, so that what a small model asks itself is not all of one kind.

The target continues them as a user would, until its end-of-turn token. An empty opening leaves
all of the turn to the target.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

OPENINGS: Mapping[str, Sequence[str]] = {
    "chat": (
        "",
        "What is",
        "Why",
        "Can you explain",
        "Give me some advice on",
        "Tell me about the history of",
        "What are the main differences between",
        "I would like to",
        "Write a short story about",
        "List five",
        "How does",
        "Write an email to",
        "Describe",
    ),
    "code": (
        "Write a Python function that",
        "How do I",
        "Write a program in C that",
        "What is wrong with this code?\n\n```python\n",
        "Explain what this function does:\n\n```python\ndef ",
        "Write a SQL query that",
        "Write a JavaScript function to",
        "Write a unit test for",
        "Implement a class in Python for",
        "Write a shell script that",
    ),
    "summarising": (
        "Summarize the following text:\n\n",
        "Summarize this article in two sentences.\n\n",
        "What are the key points of the text below?\n\n",
        "Make the following shorter:\n\n",
        "Rewrite this paragraph in simple words:\n\n",
        "Give a title to this passage:\n\nThe",
        "Write a one-paragraph summary of",
        "Extract the names and dates from the following text:\n\nIn",
    ),
    "translation": (
        "Translate to French:",
        "Translate the following sentence into Spanish: ",
        "Translate into German: The",
        'How do you say "',
        "Translate this text from English to Italian:\n\n",
        "What does the French phrase",
        "Translate to English: Je",
        "Translate to English: El",
    ),
    "maths": (
        "How many",
        "Solve for x:",
        "What is the sum of",
        "Calculate",
        "A train leaves",
        "If a rectangle has a length of",
        "Explain step by step how to solve",
        "Prove that",
        "What is the probability",
        "John has",
    ),
}
"""Kind of prompt -> openings."""

KINDS = tuple(OPENINGS)


def alternating() -> list[tuple[int, str]]:
    """All openings with the number of their kind in `KINDS`, the kinds in turns and in equal
    shares: those of a kind with few come more than once."""
    longest = max(map(len, OPENINGS.values()))
    columns = [
        [(kind, texts[index % len(texts)]) for index in range(longest)]
        for kind, texts in enumerate(OPENINGS.values())
    ]
    return list(chain(*zip(*columns, strict=True)))
