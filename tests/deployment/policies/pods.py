"""Policies on what a pod may do, needs, and is asked."""

from collections.abc import Iterator, Sequence

from tests.deployment.manifests import Manifest, containers_of, name_of, of_kind, pod_of

CALLS_THE_API = ("autoscaler",)  # components whose pods have a token


def is_restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The Pod Security Standard `restricted`, and a root file system that is not written to."""
    for deployment in of_kind(manifests, "Deployment"):
        pod = pod_of(deployment)
        own = pod.get("securityContext", {})
        if not (own.get("runAsNonRoot") and own.get("runAsUser", 0) > 0):
            yield f"{name_of(deployment)} may run as root"
        if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name_of(deployment)} has no seccomp profile"
        if any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name_of(deployment)} shares what is its node's"
        yield from (
            f"{name_of(deployment)}: volume {each['name']} is of the node"
            for each in pod.get("volumes", [])
            if "hostPath" in each
        )
        for container in containers_of(deployment):
            yield from _unrestricted(container, f"{name_of(deployment)}: {container['name']}")


def _unrestricted(container: Manifest, where: str) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield f"{where} may gain privileges"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{where} may write to its root file system"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{where} has capabilities"
    if own.get("runAsNonRoot", True) is not True or own.get("runAsUser", 1) == 0:
        yield f"{where} may run as root"
    if any("hostPort" in each for each in container.get("ports", [])):
        yield f"{where} takes a port of its node"


def has_no_token(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Only the autoscaler asks the API server, and service links would look like settings."""
    for deployment in of_kind(manifests, "Deployment"):
        pod = pod_of(deployment)
        role = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        if role not in CALLS_THE_API and pod.get("automountServiceAccountToken") is not False:
            yield f"{name_of(deployment)} has a token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name_of(deployment)} has service links"


def names_its_images(manifests: Sequence[Manifest]) -> Iterator[str]:
    """By a tag that stays."""
    for deployment in of_kind(manifests, "Deployment"):
        for container in containers_of(deployment):
            _, colon, tag = container["image"].rpartition(":")
            if not colon or "/" in tag or tag == "latest":
                yield f"{name_of(deployment)}: {container['image']} has no tag that stays"


def has_limits(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Requests for CPU and memory, a limit for memory. None for CPU: throttling breaks passes."""
    for deployment in of_kind(manifests, "Deployment"):
        for container in containers_of(deployment):
            resources = container.get("resources", {})
            where = f"{name_of(deployment)}: {container['name']}"
            if not {"cpu", "memory"} <= set(resources.get("requests", {})):
                yield f"{where} requests nothing"
            if "memory" not in resources.get("limits", {}):
                yield f"{where} has no limit of memory"
            if "cpu" in resources.get("limits", {}):
                yield f"{where} is throttled"


def has_probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Liveness is slow to judge, and asks nothing that depends on other processes."""
    for deployment in of_kind(manifests, "Deployment"):
        for container in pod_of(deployment)["containers"]:
            where = f"{name_of(deployment)}: {container['name']}"
            missing = {"startupProbe", "readinessProbe", "livenessProbe"} - set(container)
            yield from (f"{where} has no {each}" for each in sorted(missing))
            live = container.get("livenessProbe", {})
            if live.get("periodSeconds", 10) * live.get("failureThreshold", 3) < 60:
                yield f"{where} is restarted after less than a minute"
            if "httpGet" in live and live["httpGet"]["path"] != "/livez":
                yield f"{where} is restarted for {live['httpGet']['path']}"
            yield from _probes_of_no_port(container, where)


def _probes_of_no_port(container: Manifest, where: str) -> Iterator[str]:
    ports = {each["name"] for each in container.get("ports", [])}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.get(kind, {})
        asked = probe.get("httpGet") or probe.get("tcpSocket") or {}
        if asked and asked["port"] not in ports:
            yield f"{where}: {kind} asks port {asked['port']}, which it does not have"


def has_no_surge_of_devices(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Where all GPUs are taken, a new pod would wait for an old one for ever."""
    for deployment in of_kind(manifests, "Deployment"):
        limits = [each.get("resources", {}).get("limits", {}) for each in containers_of(deployment)]
        has_device = any("nvidia.com/gpu" in each for each in limits)
        has_device |= bool(pod_of(deployment).get("resourceClaims"))
        surge = deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
        if has_device and surge != 0:
            yield f"{name_of(deployment)} has a surge of {surge}"
