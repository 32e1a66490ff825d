"""What can be said of lookups, what holds where nothing is said, and the lookups themselves."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from forethought.configuration.texts import split_texts
from forethought.counts.file import read_counts
from forethought.errors import InvalidArgumentError
from forethought.models.files.shipped import shipped_counts
from orchestrator.lookup.counts import CountsLookup
from orchestrator.lookup.lookup import Lookup
from orchestrator.lookup.ngram import NgramLookup
from orchestrator.lookup.suffix import SuffixLookup, SuffixOptions

Lookups = Annotated[
    tuple[Literal["suffix", "ngram", "counts"], ...] | None,
    NoDecode,
    BeforeValidator(lambda value: None if value is None else split_texts(value)),
]
MIN_MATCH, MIN_MATCH_BEFORE_MODEL = 2, 5
"""A match of two tokens is right more often than counts, one of five than most models."""
FIRST_MIN_PROB = 0.1
"""Where nobody guesses after counts, even an unlikely guess is worth its place in the pass."""


class LookupSettings(BaseModel):
    """The part of the orchestrator's settings that says how guesses are looked up."""

    lookup: Lookups = Field(
        None,
        description="who looks guesses up before the draft tier is asked, in the order of "
        "preference, comma-separated: suffix and ngram in the text itself, suffix for what came "
        "most often, ngram for what came last, counts in a file of counted texts; empty: nobody. "
        "Unset: suffix, then counts if there is a file of them",
    )
    counts_file: Path | None = Field(
        None,
        description="counts of the target's texts, written by `forethought count`. Unset: those "
        "that come with Forethought for the model, if any",
    )
    ngram_min_match: int = Field(2, ge=1, description="shortest run of tokens to look up")
    ngram_max_match: int = Field(
        16, ge=1, description="longest run of tokens to look up", validate_default=True
    )
    suffix_min_match: int | None = Field(
        None,
        ge=1,
        description=f"shortest run of tokens to look up; unset, {MIN_MATCH_BEFORE_MODEL} before a "
        f"draft tier and {MIN_MATCH} without",
    )
    suffix_max_match: int = Field(
        32, ge=1, description="longest run of tokens to look up", validate_default=True
    )
    suffix_min_prob: float = Field(
        0.4,
        ge=0,
        le=1,
        description="least estimated probability of a whole draft; it ends before it falls below",
    )
    suffix_memory: int = Field(
        0,
        ge=0,
        description="tokens of earlier outputs to look up too, each tenant in its own; 0 is none",
    )
    counts_min_prob: float = Field(
        0.3,
        ge=0,
        le=1,
        description="least estimated probability of a whole draft from counts; it ends before it "
        "falls below",
    )
    counts_first_min_prob: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the same of a draft of one token; unset, --counts-min-prob before a draft "
        f"tier, and at most {FIRST_MIN_PROB} where nobody guesses after counts",
    )

    @field_validator("ngram_max_match", "suffix_max_match")
    @classmethod
    def _refuse_an_empty_range(cls, value: int, info: ValidationInfo) -> int:
        minimum = str(info.field_name).replace("max", "min")
        if value < (info.data.get(minimum) or 1):
            raise ValueError(f"must not be below {minimum}: nothing would ever be found")
        return value


def make_lookups(
    settings: LookupSettings, model: str, vocabulary_fingerprint: str, *, has_draft_tier: bool
) -> list[Lookup]:
    """The lookups that are asked for, in the order of preference.

    Args:
        settings: what is said of them.
        model: the reference that counts may come along for.
        vocabulary_fingerprint: of the texts.
        has_draft_tier: whether somebody guesses where they find nothing.

    Raises:
        InvalidArgumentError: counts are asked for, and there is no file of them.
        ModelReferenceError: the file of counts is not sound.
        VocabularyMismatchError: it is of another vocabulary.
    """
    counts_file = settings.counts_file or shipped_counts(model)
    unset = ("suffix",) if counts_file is None else ("suffix", "counts")
    lookups: list[Lookup] = []
    for kind in unset if settings.lookup is None else settings.lookup:
        match kind:
            case "ngram":
                lookups.append(NgramLookup(settings.ngram_min_match, settings.ngram_max_match))
            case "suffix":
                lookups.append(
                    SuffixLookup(_suffix_options(settings, has_draft_tier=has_draft_tier))
                )
            case "counts":
                if counts_file is None:
                    problem = "counts are looked up in a file: give --counts-file"
                    raise InvalidArgumentError({"lookup": problem})
                table = read_counts(counts_file, vocabulary_fingerprint).table
                least = settings.counts_min_prob
                first = settings.counts_first_min_prob
                if first is None:
                    first = least if has_draft_tier else min(least, FIRST_MIN_PROB)
                lookups.append(CountsLookup(table, least, first))
    return lookups


def _suffix_options(settings: LookupSettings, *, has_draft_tier: bool) -> SuffixOptions:
    longest = settings.suffix_max_match
    unset = min(longest, MIN_MATCH_BEFORE_MODEL if has_draft_tier else MIN_MATCH)
    return SuffixOptions(
        unset if settings.suffix_min_match is None else settings.suffix_min_match,
        longest,
        settings.suffix_min_prob,
        settings.suffix_memory,
    )
