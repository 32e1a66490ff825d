"""Settings of the draft tier."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from forethought.lookup.settings import LookupSettings
from forethought.sampling.params import MAX_SUPPORT
from forethought.settings import AdminAddress, EngineSettings


class DraftSettings(LookupSettings, EngineSettings):
    """Command line, `FORETHOUGHT_DRAFT_…`, or `[draft]`."""

    section: ClassVar[str] = "draft"
    program: ClassVar[str] = "python -m draft_service"

    listen: str = Field("127.0.0.1:50051", description="host:port; port 0 takes a free one")
    admin_listen: AdminAddress = "127.0.0.1:9101"
    proposer: Literal["model", "ngram", "suffix", "counts", "hybrid"] = Field(
        "model",
        description="model drafts with a causal language model; ngram and suffix look the text up "
        "in itself and take only the vocabulary from the model reference, ngram for what came "
        "last, suffix for what came most often; counts drafts from a file of counted texts; hybrid "
        "looks the text up, and asks its fallback where that finds nothing",
    )
    target_vocabulary: str | None = Field(
        None,
        description="model reference whose tokenizer the sessions speak, for a draft model with "
        "another one: it then guesses the tokens that both vocabularies hold. Unset, sessions with "
        "another vocabulary are refused",
    )
    max_support: int = Field(
        32, ge=1, le=MAX_SUPPORT, description="most tokens in a draft distribution (M)"
    )
    min_prob: float = Field(
        0.0,
        ge=0,
        le=1,
        description="a draft ends before a place where the model gives its likeliest token less "
        "than this; 0 always drafts all that is asked for",
    )
    lookahead: int = Field(
        1,
        ge=0,
        le=16,
        description="ends of a round, likeliest first, beyond which to draft while the target "
        "verifies it; 0 where both tiers share a processor, more where a pass over several "
        "sequences takes no longer than over one. Feature drafts do not look ahead",
    )
    hybrid_lookup: Literal["suffix", "ngram"] = Field(
        "suffix", description="how the hybrid proposer looks up, with the options of that one"
    )
    hybrid_min_match: int | None = Field(
        None,
        ge=1,
        description="shortest run of tokens whose continuation the hybrid proposer prefers to its "
        "fallback, in place of the shortest run of its lookup; unset, 5 before a model and 2 "
        "before counts",
        validate_default=True,
    )

    hybrid_fallback: Literal["model", "counts", "counts+model"] = Field(
        "model",
        description="who drafts where the hybrid proposer finds nothing: the model, the counts, or "
        "the counts as far as they are certain enough, else the model",
    )
    counts_file: Path | None = Field(
        None,
        description="counts of the target's texts, written by `forethought count`; for the counts "
        "proposer, and for hybrid with counts",
        validate_default=True,
    )

    @field_validator("hybrid_min_match")
    @classmethod
    def _refuse_what_is_never_found(cls, value: int | None, info: ValidationInfo) -> int | None:
        longest = f"{info.data.get('hybrid_lookup', 'suffix')}_max_match"
        if value is not None and value > info.data.get(longest, value):
            raise ValueError(f"must not be above {longest}: nothing would ever be found")
        return value

    @field_validator("target_vocabulary")
    @classmethod
    def _refuse_to_translate_nothing(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("proposer") in ("ngram", "suffix", "counts"):
            raise ValueError("is for a draft model: a lookup takes its vocabulary from model")
        return value

    @field_validator("counts_file")
    @classmethod
    def _refuse_counts_from_nowhere(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        proposer, fallback = info.data.get("proposer"), info.data.get("hybrid_fallback", "model")
        wanted = proposer == "counts" or (proposer == "hybrid" and fallback != "model")
        if wanted and value is None:
            raise ValueError("must name the file that the counts proposer drafts from")
        return value
