"""Settings of the autoscaler."""

from typing import ClassVar

from pydantic import Field, ValidationInfo, field_validator

from autoscaler.decider import Tier
from autoscaler.needs import Goals
from autoscaler.steady import Limits
from forethought.configuration.texts import Texts
from forethought.configuration.tls_settings import TierTlsSettings
from forethought.settings import AdminAddress, ProcessSettings

_MOST = 10_000


class AutoscalerSettings(TierTlsSettings, ProcessSettings):
    """Command line, `FORETHOUGHT_AUTOSCALER_…`, or `[autoscaler]`."""

    section: ClassVar[str] = "autoscaler"
    program: ClassVar[str] = "python -m autoscaler"

    listen: str = Field(
        "127.0.0.1:50053",
        description="host:port of KEDA's external scaler; port 0 takes a free one",
    )
    admin_listen: AdminAddress = "127.0.0.1:9104"
    # KEDA's streams last for as long as it is there, and are opened again at once.
    drain_grace_s: float = Field(
        1.0, ge=0, description="seconds that running calls get to finish after SIGTERM"
    )
    orchestrator: Texts = Field(
        ("127.0.0.1:50050",),
        min_length=1,
        description="addresses of the orchestrators, comma-separated or repeated; a DNS name "
        "stands for all of its records",
    )
    target: Texts = Field(
        ("127.0.0.1:50052",),
        min_length=1,
        description="addresses of the target tier's replicas, likewise",
    )
    draft: Texts = Field(
        ("127.0.0.1:50051",), description="addresses of the draft tier's replicas, likewise"
    )
    target_deployment: str = Field(
        "",
        description="name of the Deployment of the targets, if this process is to scale it; empty "
        "where KEDA does",
    )
    draft_deployment: str = Field("", description="name of the Deployment of the drafts, likewise")
    namespace: str = Field("", description="namespace of both; empty: that of the pod")
    lease: str = Field(
        "forethought-autoscaler",
        min_length=1,
        description="name of the Lease that says which of several autoscalers scales",
    )
    target_min: int = Field(1, ge=1, le=_MOST, description="least replicas of the target tier")
    target_max: int = Field(
        10, ge=1, le=_MOST, description="most replicas of the target tier", validate_default=True
    )
    draft_min: int = Field(
        0,
        ge=0,
        le=_MOST,
        description="least replicas of the draft tier; with 0 it goes where drafts do not pay",
    )
    draft_max: int = Field(
        10, ge=0, le=_MOST, description="most replicas of the draft tier", validate_default=True
    )
    orchestrator_min: int = Field(1, ge=1, le=_MOST, description="least orchestrators; for KEDA")
    orchestrator_max: int = Field(
        10, ge=1, le=_MOST, description="most orchestrators; for KEDA", validate_default=True
    )
    interval_s: float = Field(5.0, gt=0, le=60, description="seconds between two looks at all")
    window_s: float = Field(
        15.0, gt=0, le=600, description="seconds over which rates are taken; at least two looks"
    )
    down_after_s: float = Field(
        300.0, ge=0, description="seconds for which fewer replicas must have done, until there are"
    )
    wait_s: float = Field(
        2.0, gt=0, description="seconds within which targets compute the tokens that wait"
    )
    kv_usage: float = Field(
        0.8, gt=0, le=1, description="share of its blocks of keys and values that a replica may use"
    )
    pass_stretch: float = Field(
        4.0,
        ge=1,
        description="a target's pass may take so many times as long as one over a single token",
    )
    draft_usage: float = Field(
        0.7, gt=0, le=1, description="share of the time that a draft replica may be at work"
    )
    request_usage: float = Field(
        0.7, gt=0, le=1, description="share of its max_requests that an orchestrator may have"
    )

    @field_validator("target_max", "draft_max", "orchestrator_max")
    @classmethod
    def _refuse_less_than_the_least(cls, value: int, info: ValidationInfo) -> int:
        least = str(info.field_name).replace("max", "min")
        if value < info.data.get(least, 0):
            raise ValueError(f"must be at least {least}, which is {info.data[least]}")
        return value

    @property
    def goals(self) -> Goals:
        """How busy replicas may be."""
        return Goals(
            wait_s=self.wait_s,
            kv_usage=self.kv_usage,
            pass_stretch=self.pass_stretch,
            draft_usage=self.draft_usage,
            request_usage=self.request_usage,
        )

    @property
    def limits(self) -> dict[Tier, Limits]:
        """Of each tier."""
        return {
            Tier.TARGET: Limits(self.target_min, self.target_max),
            Tier.DRAFT: Limits(self.draft_min, self.draft_max),
            Tier.ORCHESTRATOR: Limits(self.orchestrator_min, self.orchestrator_max),
        }

    @property
    def deployments(self) -> dict[Tier, str]:
        """Those that this process scales."""
        names = {Tier.TARGET: self.target_deployment, Tier.DRAFT: self.draft_deployment}
        return {tier: name for tier, name in names.items() if name}
