"""What `forethought up` and the benchmarks are asked to start."""

from dataclasses import dataclass
from pathlib import Path

from forethought.local.plan.defaults import DEFAULT_MODEL, HOST

LOOKUPS = ("suffix", "ngram", "counts")
"""What an orchestrator can look guesses up by."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """A deployment on this machine. None leaves the choice to the tier."""

    model: str = DEFAULT_MODEL
    draft_model: str | None = None  # None: there is no draft tier
    translate_draft: bool = False  # the draft model may have a vocabulary of its own
    lookup: tuple[str, ...] | None = None  # who looks guesses up before the draft tier is asked
    counts: Path | None = None  # a file to look up in
    num_speculative_tokens: int | None = None
    policy: str | None = None  # how K is chosen where a request does not say
    verification_mode: str | None = None  # where a request does not say
    generation_config: str | None = None  # "none": without the model's sampling parameters
    dtype: str | None = None
    draft_dtype: str | None = None  # None: as `dtype` says
    device: str | None = None
    num_threads: int | None = None
    draft_min_prob: float | None = None
    draft_vocab_size: int | None = None  # tokens that the draft model scores; None: all
    lookahead: int | None = None  # None: none where target and draft share a CPU
    kv_memory: str | None = None  # of the target, such as "4GiB"
    max_model_len: int | None = None
    max_sessions: int | None = None  # at a time
    host: str = HOST  # that the orchestrator listens on
    insecure: bool = False  # though other machines reach it
    port: int | None = None  # None: the first free one from DEFAULT_PORT on
    has_gateway: bool = False
    http_port: int | None = None  # of the gateway; None: the first free one from its own on
    embedded_store: bool = True
    redis_url: str | None = None  # used instead of the embedded store

    @property
    def drafts(self) -> str:
        """Who drafts, in words."""
        looked_up = ("lookup",) if self.lookup is None else self.lookup
        model = () if self.draft_model is None else (self.draft_model,)
        return " and ".join((*looked_up, *model)) or "nobody"
