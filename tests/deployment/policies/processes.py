"""The settings that each process of a deployment would read, and policies on them.

A process reads its flags, variables, TOML file and mounted files here as it does in its container:
what is mounted is written to a folder, and paths lead there.
"""

import contextlib
import importlib
import io
import os
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from forethought.addresses import is_loopback
from forethought.settings import ProcessSettings
from tests.deployment.manifests import Manifest, labels_of, name_of, of_kind, pod_of, selects

SETTINGS = {
    "target": "target_service.settings:TargetSettings",
    "draft": "draft_service.settings:DraftSettings",
    "orchestrator": "orchestrator.settings:OrchestratorSettings",
    "gateway": "gateway.settings:GatewaySettings",
    "autoscaler": "autoscaler.settings:AutoscalerSettings",
}
"""Where the settings of each component are."""

GIVEN_SECRETS = {"forethought-redis": {"url": "redis://redis.example:6379"}}
"""Secrets that whoever deploys makes, by docs/kubernetes.md."""

END_S = 5  # to end after the drain


class RefusedSettingsError(Exception):
    """A process would refuse what it is told; the message is its own."""


@dataclass(frozen=True)
class Process:
    """A process of ours in a rendered deployment."""

    role: str
    deployment: Manifest
    container: Manifest
    settings: ProcessSettings

    @property
    def name(self) -> str:
        """Of its Deployment."""
        return name_of(self.deployment)


def processes(manifests: Sequence[Manifest]) -> Iterator[Process]:
    """Each process of ours.

    Raises:
        RefusedSettingsError: one would refuse its settings.
    """
    for deployment in of_kind(manifests, "Deployment"):
        role = labels_of(deployment)["app.kubernetes.io/component"]
        if role in SETTINGS:
            container = next(
                each for each in pod_of(deployment)["containers"] if each["name"] == role
            )
            with tempfile.TemporaryDirectory() as folder:
                mounts = _write_mounts(manifests, deployment, container, Path(folder))
                settings = read_settings(
                    role, container.get("args", []), variables_of(container), mounts
                )
            yield Process(role, deployment, container, settings)


def variables_of(container: Manifest) -> dict[str, str]:
    """The environment that a manifest gives. Those that the cluster fills in are numbers."""
    return {each["name"]: each.get("value", "1") for each in container.get("env", [])}


def read_settings(
    role: str,
    arguments: Sequence[str],
    variables: Mapping[str, str],
    mounts: Mapping[str, Path],
) -> ProcessSettings:
    """What a process reads from flags, variables and files.

    Args:
        role: of the process.
        arguments: of its command line.
        variables: of its environment; the tests' own do not count.
        mounts: where the files below a path of the container are.

    Raises:
        RefusedSettingsError: it refuses them.
    """

    def moved(text: str) -> str:
        for path, folder in mounts.items():
            text = text.replace(f"{path}/", f"{folder}/")
        return text

    for folder in mounts.values():
        for toml in folder.glob("*.toml"):
            toml.write_text(moved(toml.read_text()))
    module, _, name = SETTINGS[role].partition(":")
    kind: type[ProcessSettings] = getattr(importlib.import_module(module), name)
    said = io.StringIO()
    moved_variables = {name: moved(value) for name, value in variables.items()}
    try:
        with patch.dict(os.environ, moved_variables), contextlib.redirect_stderr(said):
            return kind._parse([moved(each) for each in arguments])
    except SystemExit as error:
        raise RefusedSettingsError(said.getvalue()) from error


def _write_mounts(
    manifests: Sequence[Manifest], deployment: Manifest, container: Manifest, folder: Path
) -> dict[str, Path]:
    volumes = {each["name"]: each for each in pod_of(deployment)["volumes"]}
    mounts = {}
    for mount in container["volumeMounts"]:
        files = _files_of(manifests, volumes[mount["name"]])
        if files is not None:
            place = folder / mount["name"]
            place.mkdir()
            for name, content in files.items():
                (place / name).write_text(content)
            mounts[mount["mountPath"]] = place
    return mounts


def _files_of(manifests: Sequence[Manifest], volume: Manifest) -> Mapping[str, str] | None:
    """What a volume holds; None where that is no matter of settings."""
    if "configMap" in volume:
        return _named(manifests, "ConfigMap", volume["configMap"]["name"])["data"]
    if "secret" not in volume:
        return None
    name = volume["secret"]["secretName"]
    if name in GIVEN_SECRETS:
        return GIVEN_SECRETS[name]
    if any(each["spec"]["secretName"] == name for each in of_kind(manifests, "Certificate")):
        return dict.fromkeys(("ca.crt", "tls.crt", "tls.key"), "in PEM")
    data = _named(manifests, "Secret", name)["data"]
    return {key: b64decode(value).decode() for key, value in data.items()}


def _named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    found = [each for each in of_kind(manifests, kind) if each["metadata"]["name"] == name]
    assert found, f"there is no {kind}/{name}"
    return found[0]


def ends_in_time(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The grace is enough for preStop, the drain, and the end."""
    for process in processes(manifests):
        pre_stop_s = process.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed_s = pre_stop_s + process.settings.drain_grace_s + END_S
        if pod_of(process.deployment)["terminationGracePeriodSeconds"] < needed_s:
            yield f"{process.name} needs {needed_s} s to end"


def listens_where_it_is_called(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Container ports are those that the process listens on; settings lead to Services."""
    services = {
        each["metadata"]["name"]: {port["port"] for port in each["spec"]["ports"]}
        for each in of_kind(manifests, "Service")
    }
    for process in processes(manifests):
        ports = {each["containerPort"] for each in process.container["ports"]}
        settings = process.settings
        wanted = {_port(settings.listen), _port(settings.admin_listen)}
        if ports != wanted:
            yield f"{process.name} listens on {wanted}, not on {ports}"
        for address in (settings.listen, settings.admin_listen):
            if is_loopback(address):
                yield f"nobody but its own pod reaches {process.name} at {address}"
        for address in called(settings):
            name, _, port = address.partition(":")
            if int(port) not in services.get(name, ()):
                yield f"{process.name} calls {address}, where nothing is"


def is_scraped(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Where there is a monitor, each process of ours is in it."""
    monitors = of_kind(manifests, "PodMonitor")
    for process in processes(manifests):
        labels = labels_of(process.deployment)
        if monitors and not any(selects(each["spec"]["selector"], labels) for each in monitors):
            yield f"{process.name} is in no monitor"


def called(settings: ProcessSettings) -> Iterator[str]:
    """The addresses that a process calls."""
    for name in ("target", "draft", "orchestrator"):
        yield from getattr(settings, name, ())


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
