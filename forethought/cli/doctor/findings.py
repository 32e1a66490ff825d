"""What is wrong with a deployment, and what to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from forethought.cli.doctor.examination import Examined
from forethought.deployment import (
    Certificate,
    DeploymentState,
    ReplicaState,
    Standing,
    TierState,
)

LATE_PART = 0.1
"""Of a certificate's time: what renews certificates has done so before that is left."""
POOR_ACCEPTANCE = 0.1
"""A draft of which less is accepted hardly ever pays."""
ENOUGH_TOKENS = 1000
"""Drafted, before their acceptance means anything."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    where: str
    what: str
    advice: str


def find(examined: Sequence[Examined], now: datetime | None = None) -> list[Finding]:
    """All of it, each thing once, however many orchestrators say it."""
    now = now or datetime.now(UTC)
    found = [finding for each in examined for finding in _of_orchestrator(each, now)]
    found += _of_versions(examined)
    return list(dict.fromkeys(found))


def _of_orchestrator(examined: Examined, now: datetime) -> Iterator[Finding]:
    where, state = f"orchestrator {examined.address}", examined.state
    if state is None:
        why = examined.failure.message if examined.failure else "it does not answer"
        yield Finding(where, why, _advice_for_silence(examined))
        return
    if state.not_ready:
        yield Finding(where, f"not ready: {state.not_ready}", "see what its log waits for")
    yield from _of_certificate(where, examined.certificate, now)
    for tier in state.tiers:
        yield from _of_tier(tier, now)
    yield from _of_store(state)
    if state.max_requests and state.num_requests >= state.max_requests:
        yield Finding(
            where,
            f"full: {state.num_requests} requests are under way, and further ones are refused",
            "add orchestrators, or raise --max-requests if targets have room",
        )
    yield from _of_acceptance(state)


def _advice_for_silence(examined: Examined) -> str:
    failure = examined.failure
    if failure is not None and failure.code == "UNIMPLEMENTED":
        return "--address wants an orchestrator of this version; draft and target are none"
    if failure is not None and failure.code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return "give a key that may read statistics, by FORETHOUGHT_API_KEY"
    if failure is not None and failure.reason == "TLS_HANDSHAKE":
        return "check --tls-ca, --tls-cert and --tls-key"
    return "see whether it runs, and what its log says last"


def _of_tier(tier: TierState, now: datetime) -> Iterator[Finding]:
    if not tier.replicas:
        yield Finding(
            f"{tier.name} tier",
            "its name stands for no replica",
            f"start one, or mend --{tier.name} of the orchestrator",
        )
    for replica in tier.replicas:
        where = f"{tier.name} {replica.address}"
        yield from _of_standing(where, tier.name, replica)
        yield from _of_certificate(where, replica.certificate, now)
    models = {
        replica.model.model_fingerprint
        for replica in tier.replicas
        if replica.model is not None and replica.standing is Standing.SERVING
    }
    if len(models) > 1:
        yield Finding(
            f"{tier.name} tier",
            f"its replicas serve {len(models)} models",
            "finish the rollout: sessions stay with one of them",
        )


_DRAFT_LOSS = "; answers are the same without it, and slower"


def _of_standing(where: str, tier: str, replica: ReplicaState) -> Iterator[Finding]:
    less = _DRAFT_LOSS if tier == "draft" else ""
    why = f": {replica.why}" if replica.why else ""
    match replica.standing:
        case Standing.LOST:
            yield Finding(
                where,
                f"does not answer{why}",
                f"see whether it runs, and what its log says last{less}",
            )
        case Standing.REFUSED:
            yield Finding(where, f"is not used{why}", f"start it with the model that fits{less}")
        case Standing.CLOSED:
            yield Finding(where, "loads or drains", f"wait; its log says how far it is{less}")
        case Standing.UNKNOWN:
            yield Finding(where, "has not been heard of yet", "look again in a moment")
        case _ if replica.is_ejected:
            yield Finding(
                where,
                "is kept out: its rounds fail, or it does not answer in time",
                f"see its log; start it again{less}",
            )


def _of_certificate(
    where: str, certificate: Certificate | None, now: datetime
) -> Iterator[Finding]:
    if certificate is None:
        return
    left = certificate.not_after - now
    if left <= timedelta(0):
        yield Finding(where, "its certificate has expired", "renew it, and see what should have")
    elif left < LATE_PART * (certificate.not_after - certificate.not_before):
        yield Finding(
            where,
            f"its certificate expires in {in_time(left)}",
            "renew it: the file is read again when it changes",
        )


def _of_store(state: DeploymentState) -> Iterator[Finding]:
    if state.store is None:
        return
    if state.store.why_away:
        yield Finding(
            "store",
            state.store.why_away,
            "see whether it runs; until then sessions do not outlive their orchestrator",
        )
    elif state.store.num_undurable_sessions:
        yield Finding(
            "store",
            f"{state.store.num_undurable_sessions} sessions are not written yet",
            "look again: they are written while the store answers",
        )


def _of_acceptance(state: DeploymentState) -> Iterator[Finding]:
    rate = state.acceptance_rate
    if rate is not None and rate < POOR_ACCEPTANCE and state.num_draft_tokens >= ENOUGH_TOKENS:
        yield Finding(
            "draft tier",
            f"only {rate:.0%} of its tokens are accepted",
            "choose a draft made for this target; forethought distill makes one",
        )


def _of_versions(examined: Sequence[Examined]) -> Iterator[Finding]:
    versions = set()
    for each in examined:
        if each.state is not None:
            versions.add(each.state.version)
            versions |= {
                replica.model.version
                for tier in each.state.tiers
                for replica in tier.replicas
                if replica.model is not None and replica.standing is not Standing.LOST
            }
    if len(versions) > 1:
        shown = ", ".join(sorted(version or "an older one" for version in versions))
        yield Finding("deployment", f"several versions run: {shown}", "finish the rollout")


def in_time(left: timedelta) -> str:
    """A time to come in days, hours or minutes."""
    if left.days >= 2:
        return f"{left.days} days"
    hours = left.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{max(hours * 60, 0):.0f} minutes"
