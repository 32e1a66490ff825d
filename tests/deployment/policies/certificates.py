"""Policies on who shows which certificate to whom."""

from collections.abc import Iterator, Sequence

from tests.deployment.manifests import Manifest, of_kind, pod_of
from tests.deployment.policies.processes import Process, processes


def names_fit(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Where tiers speak TLS, orchestrators do too, and each shows the name that the other wants."""
    by_role = {each.role: each for each in processes(manifests)}
    orchestrator = by_role["orchestrator"]
    caller = _names_of(manifests, orchestrator)
    for role in ("target", "draft"):
        tier = by_role[role]
        if bool(tier.settings.tls_cert) != bool(orchestrator.settings.tier_tls_ca):
            yield f"only one of {tier.name} and {orchestrator.name} speaks TLS"
        if not tier.settings.tls_cert:
            continue
        called = {each.partition(":")[0] for each in getattr(orchestrator.settings, role)}
        if missing := called - _names_of(manifests, tier):
            yield f"{tier.name} is called by names that it does not bear: {missing}"
        if not tier.settings.tls_ca or not caller & set(tier.settings.tls_peer_name):
            yield f"{tier.name} does not ask for the name of {orchestrator.name}"


def _names_of(manifests: Sequence[Manifest], process: Process) -> set[str]:
    volumes = pod_of(process.deployment)["volumes"]
    secrets = {each["secret"]["secretName"] for each in volumes if "secret" in each}
    return {
        name
        for each in of_kind(manifests, "Certificate")
        if each["spec"]["secretName"] in secrets
        for name in each["spec"]["dnsNames"]
    }
