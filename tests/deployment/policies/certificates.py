"""Policies on who shows which certificate to whom."""

from collections.abc import Iterator, Sequence

from tests.deployment.manifests import Manifest, of_kind, pod_of
from tests.deployment.policies.processes import Process, called, processes


def names_fit(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Callers speak TLS where listeners do, and each shows the name that the other wants."""
    everybody = list(processes(manifests))
    by_service = {
        service["metadata"]["name"]: each
        for service in of_kind(manifests, "Service")
        for each in everybody
        if service["spec"]["selector"]["app.kubernetes.io/component"] == each.role
    }
    for caller in everybody:
        for name in {address.partition(":")[0] for address in called(caller.settings)}:
            if name in by_service:
                yield from _misfits(manifests, caller, by_service[name], name)


def _misfits(
    manifests: Sequence[Manifest], caller: Process, listener: Process, name: str
) -> Iterator[str]:
    settings = listener.settings
    if bool(settings.tls_cert) != bool(caller.settings.tier_tls_ca):
        yield f"only one of {caller.name} and {listener.name} speaks TLS"
    if not settings.tls_cert:
        return
    if name not in _names_of(manifests, listener):
        yield f"{listener.name} is called {name}, which its certificate does not bear"
    if settings.tls_ca and not caller.settings.tier_tls_cert:
        yield f"{caller.name} shows no certificate to {listener.name}"
    wanted = set(settings.tls_peer_name)
    if settings.tls_ca and not wanted & _names_of(manifests, caller):
        yield f"{listener.name} does not ask for a name that {caller.name} bears"


def _names_of(manifests: Sequence[Manifest], process: Process) -> set[str]:
    volumes = pod_of(process.deployment)["volumes"]
    secrets = {each["secret"]["secretName"] for each in volumes if "secret" in each}
    return {
        name
        for each in of_kind(manifests, "Certificate")
        if each["spec"]["secretName"] in secrets
        for name in each["spec"]["dnsNames"]
    }


def tiers_ask_for_names(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A tier that speaks TLS lets in whom it names, and not all that the CA has signed."""
    for process in processes(manifests):
        settings = process.settings
        is_tier = process.role in ("target", "draft")
        if is_tier and settings.tls_cert and not (settings.tls_ca and settings.tls_peer_name):
            yield f"{process.name} lets in whoever calls"
