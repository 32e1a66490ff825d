"""Policies on the ports that manifests lead to."""

from collections.abc import Iterator, Sequence

from tests.deployment.manifests import Manifest, labels_of, name_of, of_kind, pod_of, selects


def lead_to_services(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Routes name ports of the Services behind them."""
    services = {
        each["metadata"]["name"]: {port["port"] for port in each["spec"]["ports"]}
        for each in of_kind(manifests, "Service")
    }
    for route in (each for each in manifests if each["kind"].endswith("Route")):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if backend["port"] not in services.get(backend["name"], ()):
                    yield f"{name_of(route)} leads to {backend['name']}:{backend['port']}"


def lead_to_containers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Services and monitors name ports of the pods behind them."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            selector = {"matchLabels": spec["selector"]}
            wanted = [port.get("targetPort", port["port"]) for port in spec["ports"]]
        elif manifest["kind"] == "PodMonitor":
            selector = spec["selector"]
            wanted = [each["port"] for each in spec["podMetricsEndpoints"]]
            if any(each["path"] != "/metrics" for each in spec["podMetricsEndpoints"]):
                yield f"{name_of(manifest)} asks for what is not there"
        else:
            continue
        for deployment in of_kind(manifests, "Deployment"):
            missing = set(wanted) - _ports_of(deployment)
            if missing and selects(selector, labels_of(deployment)):
                yield f"{name_of(manifest)}: {name_of(deployment)} has no port {missing}"


def _ports_of(deployment: Manifest) -> set[str | int]:
    containers = pod_of(deployment)["containers"]
    ports = [port for container in containers for port in container.get("ports", [])]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}
