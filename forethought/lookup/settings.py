"""What looking up can be told, wherever it is done."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from forethought.counts.file import read_counts
from forethought.lookup.counts_proposer import CountsProposer
from forethought.lookup.ngram_proposer import NgramProposer
from forethought.lookup.proposer import LookupProposer
from forethought.lookup.suffix_proposer import SuffixOptions, SuffixProposer
from forethought.models.tokenizer import TextTokenizer
from forethought.settings import ProcessSettings
from forethought.tier import ModelInfo


class LookupSettings(ProcessSettings):
    """The part of a process that looks guesses up."""

    ngram_min_match: int = Field(2, ge=1, description="shortest run of tokens to look up")
    ngram_max_match: int = Field(
        16, ge=1, description="longest run of tokens to look up", validate_default=True
    )
    suffix_min_match: int = Field(1, ge=1, description="shortest run of tokens to look up")
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
        description="the same of a draft of one token, where nobody guesses after counts; unset is "
        "--counts-min-prob",
    )

    @field_validator("ngram_max_match", "suffix_max_match")
    @classmethod
    def _refuse_an_empty_range(cls, value: int, info: ValidationInfo) -> int:
        minimum = str(info.field_name).replace("max", "min")
        if value < info.data.get(minimum, 1):
            raise ValueError(f"must not be below {minimum}: nothing would ever be found")
        return value


def make_lookup(
    kind: str,
    settings: LookupSettings,
    info: ModelInfo,
    *,
    counts_file: Path | None = None,
    max_sessions: int = 256,
) -> LookupProposer:
    """The lookup proposer of that name: ngram, suffix or counts.

    Args:
        kind: its name.
        settings: of all kinds.
        info: the vocabulary, and the longest text.
        counts_file: of the kind counts.
        max_sessions: most sessions open at a time.

    Raises:
        ModelReferenceError: there is no sound file of counts.
        VocabularyMismatchError: it is of another vocabulary.
    """
    if kind == CountsProposer.name:
        assert counts_file is not None  # the settings see to that
        table = read_counts(counts_file, info.vocabulary_fingerprint).table
        return CountsProposer(
            info,
            table,
            settings.counts_min_prob,
            max_sessions,
            first_min_prob=settings.counts_first_min_prob,
        )
    if kind == NgramProposer.name:
        return NgramProposer(info, settings.ngram_min_match, settings.ngram_max_match, max_sessions)
    options = SuffixOptions(
        settings.suffix_min_match,
        settings.suffix_max_match,
        settings.suffix_min_prob,
        settings.suffix_memory,
    )
    return SuffixProposer(info, options, max_sessions)


def lookup_info(
    name: str, tokenizer: TextTokenizer, max_model_len: int, max_num_speculative_tokens: int
) -> ModelInfo:
    """What a lookup says of itself: the vocabulary that is looked up, and no model."""
    return ModelInfo(
        name=name,
        model_fingerprint="",
        vocabulary_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        max_model_len=max_model_len,
        dtype="",
        device="",
        max_num_speculative_tokens=max_num_speculative_tokens,
    )
