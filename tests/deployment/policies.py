"""What every rendered deployment must keep to. Each policy lists what breaks it."""

import tomllib
from collections.abc import Callable, Iterator, Sequence

from forethought.configuration.config_file import SECTIONS
from forethought.settings import ProcessSettings
from tests.deployment.manifests import (
    Manifest,
    containers_of,
    labels_of,
    name_of,
    of_kind,
    pod_of,
    selects,
)

Policy = Callable[[Sequence[Manifest]], Iterator[str]]

RESTART_S = 5  # to end after the drain
PROCESSES = ("target", "draft", "orchestrator")


def is_restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The Pod Security Standard `restricted`, and a root file system that is not written to."""
    for deployment in of_kind(manifests, "Deployment"):
        pod = pod_of(deployment).get("securityContext", {})
        if not (pod.get("runAsNonRoot") and pod.get("runAsUser", 0) > 0):
            yield f"{name_of(deployment)} may run as root"
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name_of(deployment)} has no seccomp profile"
        for container in containers_of(deployment):
            own = container.get("securityContext", {})
            where = f"{name_of(deployment)}: {container['name']}"
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{where} may gain privileges"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{where} may write to its root file system"
            if own.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{where} has capabilities"


def has_no_token(manifests: Sequence[Manifest]) -> Iterator[str]:
    """No process of ours asks the API server, and service links would look like settings."""
    for deployment in of_kind(manifests, "Deployment"):
        pod = pod_of(deployment)
        if pod.get("automountServiceAccountToken") is not False:
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


def has_budgets_and_policies(manifests: Sequence[Manifest]) -> Iterator[str]:
    """One disruption budget and at least one network policy for each Deployment, with selectors
    that select it."""
    for deployment in of_kind(manifests, "Deployment"):
        labels = labels_of(deployment)
        budgets = [
            each
            for each in of_kind(manifests, "PodDisruptionBudget")
            if each["spec"].get("selector", {}).get("matchLabels")
            and selects(each["spec"]["selector"], labels)
        ]
        if len(budgets) != 1:
            yield f"{name_of(deployment)} has {len(budgets)} disruption budgets"
        policies = [
            each
            for each in of_kind(manifests, "NetworkPolicy")
            if selects(each["spec"]["podSelector"], labels)
        ]
        for kind in ("Ingress", "Egress"):
            if not any(kind in each["spec"]["policyTypes"] for each in policies):
                yield f"{name_of(deployment)} has no policy for {kind}"


def has_selectors_that_match(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Services, budgets, policies and monitors select pods that there are."""
    pods = [labels_of(each) for each in of_kind(manifests, "Deployment")]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = {
            "Service": lambda spec: {"matchLabels": spec["selector"]},
            "Deployment": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec.get("selector", {}),
            "NetworkPolicy": lambda spec: spec["podSelector"],
            "PodMonitor": lambda spec: spec["selector"],
        }.get(manifest["kind"])
        if selector and not any(selects(selector(spec), labels) for labels in pods):
            yield f"{name_of(manifest)} selects nothing"


def ends_in_time(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The grace is enough for preStop, the drain, and the end."""
    for role, deployment, settings in processes(manifests):
        pod = pod_of(deployment)
        container = next(each for each in pod["containers"] if each["name"] == role)
        pre_stop_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed_s = pre_stop_s + settings.drain_grace_s + RESTART_S
        if pod["terminationGracePeriodSeconds"] < needed_s:
            yield f"{name_of(deployment)} needs {needed_s} s to end"


def has_no_surge_of_gpus(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Where all GPUs are taken, a new pod would wait for an old one for ever."""
    for deployment in of_kind(manifests, "Deployment"):
        limits = [each.get("resources", {}).get("limits", {}) for each in containers_of(deployment)]
        surge = deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge")
        if any("nvidia.com/gpu" in each for each in limits) and surge != 0:
            yield f"{name_of(deployment)} has a surge of {surge}"


def listens_where_it_is_called(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Container ports are those that the process listens on; Services and settings lead to them."""
    services = {
        each["metadata"]["name"]: {port["port"] for port in each["spec"]["ports"]}
        for each in of_kind(manifests, "Service")
    }
    for role, deployment, settings in processes(manifests):
        container = next(each for each in pod_of(deployment)["containers"] if each["name"] == role)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        wanted = {"grpc": _port(settings.listen), "admin": _port(settings.admin_listen)}
        if ports != wanted:
            yield f"{name_of(deployment)} listens on {wanted}, not on {ports}"
        if role == "orchestrator":
            for address in (*settings.target, *settings.draft):
                name, _, port = address.partition(":")
                if int(port) not in services.get(name, ()):
                    yield f"{name_of(deployment)} calls {address}, where nothing is"


def processes(
    manifests: Sequence[Manifest],
) -> Iterator[tuple[str, Manifest, ProcessSettings]]:
    """Each process of ours: its section, Deployment, and the settings that it would read.

    Raises:
        SystemExit: it would refuse them.
    """
    configs = {each["metadata"]["name"]: each for each in of_kind(manifests, "ConfigMap")}
    for deployment in of_kind(manifests, "Deployment"):
        role = labels_of(deployment)["app.kubernetes.io/component"]
        if role not in PROCESSES:
            continue
        volumes = pod_of(deployment)["volumes"]
        config = next(each["configMap"]["name"] for each in volumes if each["name"] == "config")
        text = configs[config]["data"]["forethought.toml"]
        yield role, deployment, _settings(role, text)


def _settings(role: str, text: str) -> ProcessSettings:
    from draft_service.settings import DraftSettings  # noqa: PLC0415 - tiers never meet otherwise
    from orchestrator.settings import OrchestratorSettings  # noqa: PLC0415
    from target_service.settings import TargetSettings  # noqa: PLC0415

    kinds = {"target": TargetSettings, "draft": DraftSettings, "orchestrator": OrchestratorSettings}
    sections = tomllib.loads(text)
    assert set(sections) <= set(SECTIONS), sections.keys()
    return kinds[role].model_validate(sections[role])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


POLICIES: tuple[Policy, ...] = (
    is_restricted,
    has_no_token,
    names_its_images,
    has_limits,
    has_probes,
    has_budgets_and_policies,
    has_selectors_that_match,
    ends_in_time,
    has_no_surge_of_gpus,
    listens_where_it_is_called,
)
