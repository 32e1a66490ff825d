"""Settings of the draft tier."""

from typing import ClassVar, Literal

from pydantic import Field

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
    max_support: int = Field(
        32, ge=1, le=MAX_SUPPORT, description="most tokens in a draft distribution (M)"
    )
    ngram_min_match: int = Field(2, ge=1, description="shortest run of tokens to look up")
    ngram_max_match: int = Field(16, ge=1, description="longest run of tokens to look up")
