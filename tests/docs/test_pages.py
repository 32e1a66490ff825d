"""Pages of the docs name files that exist, link to pages that exist, and can be read in one go."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MAX_LINES = {"README.md": 160, "architecture.md": 400}
GENERATED = {"metrics.md", "settings.md"}
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def paths() -> list[str]:
    """Files of the repository, from its root, but those of hidden folders and what is built."""
    folders = [
        each
        for each in ROOT.iterdir()
        if each.is_dir() and not each.name.startswith((".", "build"))
    ]
    nested = (path for folder in folders for path in folder.rglob("*.*"))
    return ["/" + path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.*"), *nested)]


@pages
def test_a_file_that_a_page_names_exists(page: Path, paths: list[str]):
    named = set(re.findall(r"`([\w./-]+\.(?:py|lua|proto|c|h|toml))`", page.read_text("utf-8")))
    lost = {
        name
        for name in named
        if re.search(r"[/_]", name) and not any(path.endswith("/" + name) for path in paths)
    }
    assert lost == set()


@pages
def test_a_page_that_a_page_links_to_exists(page: Path):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text("utf-8"))
    assert {link for link in links if not (page.parent / link).exists()} == set()


@pages
def test_a_page_can_be_read_in_one_go(page: Path):
    if page.name not in GENERATED:
        num_lines = page.read_text("utf-8").count("\n")
        assert num_lines <= MAX_LINES.get(page.name, 250)
