"""What there is, and what is wrong, in lines that fit into 60 columns where names do."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from forethought.cli.doctor.examination import Examined
from forethought.cli.doctor.findings import Finding, in_time
from forethought.cli.views.tokens import harmless
from forethought.deployment import Certificate, DeploymentState, ReplicaState, Standing, TierState
from forethought.tier import ModelInfo

_STYLES = {
    Standing.SERVING: "green",
    Standing.LOST: "red",
    Standing.REFUSED: "red",
}
_SHOWN_FINGERPRINT = 12  # characters


def print_examination(
    console: Console, examined: Sequence[Examined], findings: Sequence[Finding]
) -> None:
    """All of it."""
    now = datetime.now(UTC)
    for each in examined:
        for indent, line in _orchestrator(each, now):
            _print(console, line, indent)
    console.print()
    for finding in findings:
        what = Text.assemble(
            ("wrong ", "bold red"), (harmless(finding.where), "bold"), ": ", harmless(finding.what)
        )
        _print(console, what, 0)
        _print(console, Text(finding.advice, style="dim"), 2)
    if not findings:
        console.print("Nothing is wrong.", style="bold green", highlight=False)


def _print(console: Console, line: Text, indent: int) -> None:
    console.print(Padding(line, (0, 0, 0, indent), expand=False), highlight=False)


def _orchestrator(examined: Examined, now: datetime) -> Iterator[tuple[int, Text]]:
    state = examined.state
    heading = Text.assemble(("orchestrator ", "bold"), (examined.address, "bold"))
    if state is None:
        yield 0, heading.append("  does not answer", "red")
        return
    is_ready = not state.not_ready
    heading.append("  ready" if is_ready else "  not ready", "green" if is_ready else "red")
    yield 0, heading
    yield (
        2,
        _joined(
            f"version {harmless(state.version)}",
            f"{state.num_requests} of {state.max_requests} requests"
            if state.max_requests
            else None,
            _certificate(examined.certificate, now),
        ),
    )
    for tier in state.tiers:
        yield from _tier(tier, now)
    yield 0, Text.assemble(("store ", "bold"), _store(state))
    yield 0, Text.assemble(("speculation ", "bold"), _speculation(state))


def _tier(tier: TierState, now: datetime) -> Iterator[tuple[int, Text]]:
    num_serving = sum(each.standing is Standing.SERVING for each in tier.replicas)
    count = f"{num_serving} of {len(tier.replicas)} serve"
    yield 0, Text.assemble((f"{harmless(tier.name)} ", "bold"), count)
    shown: ModelInfo | None = None
    for replica in sorted(tier.replicas, key=lambda each: each.address):
        yield 2, _replica(replica, now)
        model = replica.model
        if model is not None and (shown is None or _same(model) != _same(shown)):
            shown = model
            yield 4, Text(harmless(model.name), style="dim", overflow="fold")
            yield (
                4,
                _joined(
                    model.model_fingerprint[:_SHOWN_FINGERPRINT],
                    model.dtype or None,
                    model.device or None,
                    f"version {harmless(model.version)}",
                    style="dim",
                ),
            )


def _same(model: ModelInfo) -> tuple[str, str, str]:
    return model.name, model.model_fingerprint, model.version


def _replica(replica: ReplicaState, now: datetime) -> Text:
    standing = "kept out" if replica.is_ejected else replica.standing.value
    style = "red" if replica.is_ejected else _STYLES.get(replica.standing, "yellow")
    line = Text.assemble(harmless(replica.address), "  ", (standing, style))
    rest = _joined(f"{replica.num_sessions} sessions", _certificate(replica.certificate, now))
    return line.append("  ").append(rest) if replica.standing is Standing.SERVING else line


def _certificate(certificate: Certificate | None, now: datetime) -> str | None:
    if certificate is None:
        return None
    if certificate.not_after <= now:
        return "certificate expired"
    whole = (certificate.not_after - certificate.not_before).days
    return f"certificate for {in_time(certificate.not_after - now)} of {whole} days"


def _store(state: DeploymentState) -> str:
    if state.store is None:
        return "none: sessions end with their orchestrator"
    return "does not answer" if state.store.why_away else "answers"


def _speculation(state: DeploymentState) -> str:
    rate = state.acceptance_rate
    if rate is None:
        return f"{state.num_rounds:,} rounds, nothing drafted yet"
    num_drafted = state.num_draft_tokens
    return f"{rate:.0%} of {num_drafted:,} drafted tokens accepted, {state.num_rounds:,} rounds"


def _joined(*parts: str | None, style: str = "") -> Text:
    return Text(" · ".join(part for part in parts if part), style=style)
