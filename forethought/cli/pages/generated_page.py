"""Pages of the documentation that are made from the code: written, or checked."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def run(program: str, make_page: Callable[[], str], arguments: Sequence[str]) -> int:
    """Writes or checks a page.

    Args:
        program: module that does it.
        make_page: makes the page.
        arguments: the file, and `--check` to check it.

    Returns:
        The exit code.
    """
    path, page = Path(arguments[0]), make_page()
    if "--check" not in arguments[1:]:
        path.write_text(page, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == page:
        return 0
    print(f"{path} is not what the code says; run: python -m {program} {path}", file=sys.stderr)
    return 1
