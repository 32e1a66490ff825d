"""Settings of the draft tier."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from forethought.sampling.params import MAX_SUPPORT
from forethought.settings import AdminAddress, EngineSettings


class DraftSettings(EngineSettings):
    """Command line, `FORETHOUGHT_DRAFT_…`, or `[draft]`."""

    section: ClassVar[str] = "draft"
    program: ClassVar[str] = "python -m draft_service"

    listen: str = Field("127.0.0.1:50051", description="host:port; port 0 takes a free one")
    admin_listen: AdminAddress = "127.0.0.1:9101"
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
    vocab_size: int | None = Field(
        None,
        ge=1,
        description="tokens that the model scores: the special ones and the most frequent others. "
        "Its passes take less time, and a token that is left out is never guessed. Unset, all",
    )
    vocab_counts: Path | None = Field(
        None,
        description="counts of the target's texts, written by `forethought count`, by which "
        "vocab_size tells frequent tokens. Unset, the tokenizer's merges tell them",
    )
    lookahead: int = Field(
        1,
        ge=0,
        le=16,
        description="ends of a round, likeliest first, beyond which to draft while the target "
        "verifies it; 0 where both tiers share a processor, more where a pass over several "
        "sequences takes no longer than over one. Feature drafts do not look ahead",
    )

    @model_validator(mode="after")
    def _refuse_counts_without_use(self) -> Self:
        if self.vocab_counts is not None and self.vocab_size is None:
            raise ValueError(
                f"--vocab-counts {self.vocab_counts}: is for a --vocab-size, which says how many "
                "tokens to choose by it"
            )
        return self
