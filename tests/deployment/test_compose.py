"""`docker/compose.yaml` fits the compose specification, and everything in it exists."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import compose_spec
import pytest
import yaml

from forethought import __version__
from tests.deployment.manifests import ROOT
from tests.deployment.policies.processes import (
    SETTINGS,
    RefusedSettingsError,
    called,
    read_settings,
)

FOLDER = ROOT / "docker"
DEFAULTS = re.compile(r"\$\{\w+:-([^}]*)\}")  # of variables
LOADED = yaml.safe_load(DEFAULTS.sub(r"\1", (FOLDER / "compose.yaml").read_text()))
PROCESSES = sorted(set(LOADED["services"]) & set(SETTINGS))

Compose = dict[str, Any]


def settings_of(compose: Compose, role: str) -> Any:
    """What a process would read."""
    service = compose["services"][role]
    with TemporaryDirectory() as folder:
        mounts = {}
        for config in service.get("configs", []):
            path = Path(config["target"])
            content = (FOLDER / compose["configs"][config["source"]]["file"]).read_text()
            Path(folder, path.name).write_text(content)
            mounts[str(path.parent)] = Path(folder)
        return read_settings(role, service.get("command", []), service["environment"], mounts)


def problems(compose: Compose) -> Iterator[str]:
    """What would not work, or is less closed than it can be."""
    services = compose["services"]
    names = set(services)
    for service in services.values():
        names |= set(service.get("networks", {}).get("default", {}).get("aliases", []))
    for name, service in services.items():
        yield from _is_closed(name, service)
    for each in compose["configs"].values():
        if not (FOLDER / each["file"]).is_file():
            yield f"{each['file']} is not there"
    for role in PROCESSES:
        yield from _is_reached(role, services[role], settings_of(compose, role), names)


def _is_reached(role: str, service: Compose, settings: Any, names: set[str]) -> Iterator[str]:
    if f":{_port(settings.admin_listen)}/readyz" not in service["healthcheck"]["test"][-1]:
        yield f"{role} is asked where it does not answer"
    for published in service.get("ports", []):
        if int(published.split(":")[2]) != _port(settings.listen):
            yield f"{role} does not listen on {published}"
    for address in called(settings):
        if address.partition(":")[0] not in names:
            yield f"{role} calls {address}, where nothing is"


def _is_closed(name: str, service: Compose) -> Iterator[str]:
    tag = service["image"].rpartition(":")[2]
    if tag == "latest" or "/" in tag or ("build" in service and tag != __version__):
        yield f"{name} has no tag that stays"
    if not service.get("read_only"):
        yield f"{name} may write"
    if service.get("cap_drop") != ["ALL"]:
        yield f"{name} has capabilities"
    if any(not each.startswith("127.0.0.1:") for each in service.get("ports", [])):
        yield f"{name} is open to other machines"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_it_fits_the_specification():
    compose_spec.PyCompose.from_json(json.dumps(LOADED)).validate()


@pytest.mark.parametrize(
    "change",
    [
        lambda compose: compose["services"]["target"].update(imagine="x"),
        lambda compose: compose["services"]["target"]["healthcheck"].update(intervall="1s"),
        lambda compose: compose["services"]["target"]["configs"][0].update(source="other"),
        lambda compose: compose["volumes"].pop("models"),
    ],
)
def test_a_mistake_does_not_fit_it(change: Callable[[Compose], object]):
    broken = deepcopy(LOADED)
    change(broken)
    with pytest.raises(ValueError, match=r"imagine|intervall|other|models"):
        compose_spec.PyCompose.from_json(json.dumps(broken)).validate()


def test_all_in_it_exists_and_nothing_is_open():
    assert not list(problems(LOADED))


TWINS: dict[str, Callable[[Compose], object]] = {
    "another tag": lambda c: c["services"]["draft"].update(image="forethought-draft:latest"),
    "writes": lambda c: c["services"]["grafana"].pop("read_only"),
    "capabilities": lambda c: c["services"]["valkey"].pop("cap_drop"),
    "open": lambda c: c["services"]["prometheus"].update(ports=["9090:9090"]),
    "no such file": lambda c: c["configs"]["prometheus"].update(file="prometheus.yml"),
    "asked elsewhere": lambda c: c["services"]["draft"]["healthcheck"].update(
        test=c["services"]["target"]["healthcheck"]["test"]
    ),
    "another port": lambda c: c["services"]["orchestrator"].update(ports=["127.0.0.1:50050:50051"]),
    "no alias": lambda c: c["services"]["target"].pop("networks"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_a_broken_twin_is_noticed(twin: str):
    broken = deepcopy(LOADED)
    TWINS[twin](broken)
    assert list(problems(broken))


def test_a_variable_that_is_no_setting_is_refused():
    broken = deepcopy(LOADED)
    broken["services"]["orchestrator"]["environment"]["FORETHOUGHT_ORCHESTRATOR_REDIS"] = "x"
    with pytest.raises(RefusedSettingsError, match="FORETHOUGHT_ORCHESTRATOR_REDIS"):
        list(problems(broken))


def test_prometheus_scrapes_the_admin_port_of_each_process():
    scraped = {
        (each["names"][0], each["port"])
        for job in yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
        for each in job["dns_sd_configs"]
    }
    wanted = {(role, _port(settings_of(LOADED, role).admin_listen)) for role in PROCESSES}
    assert scraped == wanted


def test_grafana_finds_its_datasource_and_its_dashboard():
    services = LOADED["services"]
    source = yaml.safe_load((FOLDER / "grafana/datasources.yaml").read_text())["datasources"][0]
    name, _, port = source["url"].removeprefix("http://").partition(":")
    assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    provider = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"][0]
    targets = {each["source"]: each["target"] for each in services["grafana"]["configs"]}
    assert Path(targets["dashboard"]).parent == Path(provider["options"]["path"])
    environment = services["grafana"]["environment"]
    assert environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == targets["dashboard"]
