"""The fenced blocks of all pages, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "drafts").rglob("README.md")),
]
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>\S*)[^`]*$")


@dataclass(frozen=True)
class Snippet:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets() -> list[Snippet]:
    """Those of all pages."""
    return [snippet for page in PAGES for snippet in _snippets_of(page)]


def commands() -> list[tuple[str, list[str]]]:
    """Where a command of a shell's block is, and its words; comments and continuations are gone."""
    found = []
    for snippet in snippets():
        if snippet.language in {"sh", "bash", "shell", "console"}:
            found += [(str(snippet), words) for words in _commands_of(snippet.text)]
    return found


def _snippets_of(page: Path) -> list[Snippet]:
    found, opened, lines = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, lines = (number, match), []
        elif match and not match["language"] and match["fence"].startswith(opened[1]["fence"]):
            name = page.relative_to(ROOT).as_posix()
            found.append(Snippet(name, opened[0], opened[1]["language"], "\n".join(lines) + "\n"))
            opened = None
        else:
            lines.append(line.removeprefix(opened[1]["indent"]))
    assert opened is None, f"{page} has a block that does not end"
    return found


def _commands_of(text: str) -> list[list[str]]:
    """Commands end at line ends that are in no quotes."""
    commands, open_lines = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        open_lines += line.removeprefix("$ ") if not open_lines else f"\n{line}"
        try:
            words = shlex.split(open_lines, comments=True)
        except ValueError:  # a quotation goes on
            continue
        if words:
            commands.append(words)
        open_lines = ""
    assert not open_lines, f"a quotation does not end: {open_lines}"
    return commands
