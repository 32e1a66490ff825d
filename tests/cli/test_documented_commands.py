"""Commands in the documentation have the options that they name."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from draft_service.settings import DraftSettings
from forethought.cli.main import app
from forethought.cli.pages import metrics_page, settings_page
from orchestrator.settings import OrchestratorSettings
from target_service.settings import TargetSettings

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "drafts").rglob("README.md")),
]
COMMAND = re.compile(r"(?:\.venv/bin/)?forethought(?= )")


def commands_of(page: Path) -> list[str]:
    """Lines of code, indented or fenced, that begin with the command."""
    text = page.read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if COMMAND.match(line)]


DOCUMENTED = [(page, line) for page in PAGES for line in commands_of(page)]


def test_there_are_some():
    assert len(DOCUMENTED) >= 10


@pytest.mark.parametrize(
    ("page", "line"), DOCUMENTED, ids=[f"{page.name}: {line[:60]}" for page, line in DOCUMENTED]
)
def test_its_options_exist(page, line):
    command = get_command(app)
    _, *words = shlex.split(line, comments=True)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        command = getattr(command, "loaded", command)
    assert not getattr(command, "commands", None), f"{words[0]} is no command"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known.add("--help")
    words = words[: words.index("--")] if "--" in words else words  # another program's
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used <= known, f"{page.name} uses {used - known}"


@pytest.mark.parametrize(
    ("name", "make_page"),
    [("settings.md", settings_page.make_page), ("metrics.md", metrics_page.make_page)],
)
def test_a_page_made_from_the_code_is_what_the_code_says(name, make_page):
    assert (ROOT / "docs" / name).read_text() == make_page(), "run 'make docs'"


@pytest.mark.parametrize("kind", [DraftSettings, TargetSettings, OrchestratorSettings])
def test_the_page_of_settings_names_each_by_flag_variable_and_key(kind):
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in kind.model_fields:
        flag, variable = f"--{name.replace('_', '-')}", f"{kind.section}_{name}".upper()
        assert f"| `{flag}` | `FORETHOUGHT_{variable}` | `{name}` |" in page


def test_the_demo_samples_with_a_seed_and_says_what_to_try_next():
    recipe = (ROOT / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
    assert "--temperature 0.8 --seed 7" in recipe
    assert "next: $(BIN)/forethought up" in recipe.rstrip().splitlines()[-1]
