"""Settings of the orchestrator."""

from typing import ClassVar, Literal

from pydantic import ByteSize, Field

from forethought.configuration.sizes import Size
from forethought.configuration.store_settings import StoreSettings
from forethought.configuration.texts import Texts
from forethought.configuration.tls_settings import OptionalFile, TierTlsSettings
from forethought.sampling.types import VerificationMode
from forethought.settings import AdminAddress, ProcessSettings
from forethought.tier import LARGEST_MAX_SPECULATIVE_TOKENS
from orchestrator.lookup.settings import LookupSettings
from orchestrator.request.plan import PolicyKind


class OrchestratorSettings(StoreSettings, TierTlsSettings, LookupSettings, ProcessSettings):
    """Command line, `FORETHOUGHT_ORCHESTRATOR_…`, or `[orchestrator]`."""

    section: ClassVar[str] = "orchestrator"
    program: ClassVar[str] = "python -m orchestrator"

    cures: ClassVar[str] = f"{ProcessSettings.cures}, or --api-keys"

    listen: str = Field("127.0.0.1:50050", description="host:port; port 0 takes a free one")
    api_keys: OptionalFile = Field(
        None,
        description="file of the API keys of which callers must show one, as `forethought keys` "
        "writes it; read again when it changes. Unset: callers need none",
    )
    admin_listen: AdminAddress = "127.0.0.1:9100"
    model: str = Field(
        description="where the tokenizer is: local folder, hub id, .gguf file, or package:NAME"
    )
    generation_config: Literal["auto", "none"] = Field(
        "auto",
        description="sampling parameters for requests that leave them open: auto takes those of "
        "the model's generation_config.json, none takes temperature 1 and all tokens",
    )
    draft: Texts = Field(
        ("127.0.0.1:50051",),
        description="addresses of the draft tier's replicas, comma-separated or repeated; a DNS "
        "name stands for all of its records; empty: there is no draft tier",
    )
    target: Texts = Field(
        ("127.0.0.1:50052",),
        min_length=1,
        description="addresses of the target tier's replicas, likewise",
    )
    policy: PolicyKind = Field(
        PolicyKind.ADAPTIVE,
        description="how the tokens to draft a round (K) are chosen when a request does not say: "
        "adaptive takes what promises the most tokens a second, fixed always the same",
    )
    num_speculative_tokens: int = Field(
        8,
        ge=0,
        le=LARGEST_MAX_SPECULATIVE_TOKENS,
        description="K of the fixed policy, and the most of the adaptive one",
    )
    verification_mode: VerificationMode = Field(
        VerificationMode.REJECTION, description="how drafts are judged when a request does not say"
    )
    max_requests: int = Field(
        256,
        ge=1,
        description="most requests under way at a time; of more than three, the last ones are for "
        "tenants that have fewer than others",
    )
    max_duration_s: float = Field(
        3600.0, gt=0, description="seconds after which a request is ended, whatever it has brought"
    )
    unread_timeout_s: float = Field(
        30.0,
        gt=0,
        description="seconds after which a stream is ended that its client does not read",
    )
    max_request_size: Size = Field(
        ByteSize(2**18),
        ge=2**12,
        description="largest message that a client may send, such as 4MiB; a text takes up to 350 "
        "times its bytes of memory while it is tokenized",
    )
    draft_open_timeout_s: float = Field(
        0.25,
        gt=0,
        description="seconds the draft tier may take to receive a request, connecting included",
    )
    draft_timeout_s: float = Field(
        2.0, gt=0, description="seconds a round waits for its draft before it goes on without"
    )
    max_hidden_states: int = Field(
        128,
        ge=1,
        le=4096,
        description="positions whose hidden states are kept of a session, for a draft that guesses "
        "from them: what one begins with, about 1 KB each for a small target",
    )
    target_patience_s: float = Field(
        10.0, ge=0, description="seconds a target may stay lost before its requests fail"
    )
    commit_interval_s: float = Field(
        0.05,
        ge=0,
        le=1,
        description="seconds between two writes of a session, at least: shorter rounds are stored "
        "and told together; with 0 each by itself",
    )
    session_ttl_s: float = Field(
        3600.0, gt=0, description="seconds for which a session is kept after its last change"
    )
    session_lease_s: float = Field(
        10.0,
        gt=0,
        description="seconds without a round after which a next turn may take a session over",
    )

    @property
    def is_exposed(self) -> bool:
        """Keys say who may call."""
        return self.api_keys is None and super().is_exposed
