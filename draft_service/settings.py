"""Settings of the draft tier."""

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from forethought.sampling.params import MAX_SUPPORT
from forethought.settings import EngineSettings


class DraftSettings(EngineSettings):
    """Command line, `FORETHOUGHT_DRAFT_…`, or `[draft]`."""

    section: ClassVar[str] = "draft"
    program: ClassVar[str] = "python -m draft_service"

    listen: str = Field("0.0.0.0:50051", description="host:port; port 0 takes a free one")
    proposer: Literal["model", "ngram"] = Field(
        "model",
        description="model drafts with a causal language model, ngram looks the text up in itself "
        "and takes only the vocabulary from the model reference",
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
    lookahead: bool = Field(
        default=True,
        description="draft the next round while the target verifies one; of no use where both "
        "tiers share a processor",
    )
    ngram_min_match: int = Field(2, ge=1, description="shortest run of tokens to look up")
    ngram_max_match: int = Field(
        16, ge=1, description="longest run of tokens to look up", validate_default=True
    )

    @field_validator("ngram_max_match")
    @classmethod
    def _refuse_an_empty_range(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("ngram_min_match", 1):
            raise ValueError("must not be below ngram_min_match: nothing would ever be found")
        return value

    @field_validator("target_vocabulary")
    @classmethod
    def _refuse_to_translate_nothing(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("proposer") in ("ngram", "suffix"):
            raise ValueError("is for a draft model: a lookup takes its vocabulary from model")
        return value
