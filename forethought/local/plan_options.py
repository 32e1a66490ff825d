"""What `forethought up` and the benchmarks are asked to start."""

from dataclasses import dataclass
from pathlib import Path

from forethought.local.defaults import DEFAULT_MODEL, HOST


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """A deployment on this machine. None leaves the choice to the tier."""

    model: str = DEFAULT_MODEL
    draft_model: str | None = None  # None: the model's
    translate_draft: bool = False  # the draft model may have a vocabulary of its own
    proposer: str | None = "ngram"  # of the draft tier; None: there is none
    lookup: tuple[str, ...] = ()  # of the orchestrator, before it asks the draft tier
    counts: Path | None = None  # a file, for the proposers counts and hybrid, and to look up
    num_speculative_tokens: int | None = None
    policy: str | None = None  # how K is chosen where a request does not say
    verification_mode: str | None = None  # where a request does not say
    generation_config: str | None = None  # "none": without the model's sampling parameters
    dtype: str | None = None
    draft_dtype: str | None = None  # None: as `dtype` says
    device: str | None = None
    num_threads: int | None = None
    draft_min_prob: float | None = None
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
