"""The Dockerfile's targets are the processes that there are, at their ports."""

import importlib
import re

import pytest
import yaml

from forethought import __version__
from tests.deployment.manifests import OVERLAYS, ROOT
from tests.deployment.policies.processes import SETTINGS

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
STAGES = dict(
    re.findall(r"^FROM service AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
)
DEFAULT_ROLES = re.findall(r"roles=\(([a-z ]+)\)", (ROOT / "docker/build.sh").read_text())[0]


def test_there_is_a_target_for_each_process_and_the_weights():
    assert set(STAGES) == {*SETTINGS, "weights"}
    assert set(DEFAULT_ROLES.split()) == set(STAGES)


@pytest.mark.parametrize("role", SETTINGS)
def test_a_target_starts_its_process_and_exposes_its_ports(role: str):
    module, _, name = SETTINGS[role].partition(":")
    fields = getattr(importlib.import_module(module), name).model_fields
    ports = {fields[field].default.rpartition(":")[2] for field in ("listen", "admin_listen")}
    exposed = re.search(r"^EXPOSE (.*)$", STAGES[role], re.MULTILINE)
    assert exposed
    assert set(exposed[1].split()) == ports
    package = module.partition(".")[0]
    assert f'ENTRYPOINT ["python", "-m", "{package}"]' in STAGES[role]


def test_all_services_run_as_a_numeric_user_without_a_writable_path_of_their_own():
    service = re.search(
        r"^FROM scratch AS service\n(.*?)(?=^FROM )", DOCKERFILE, re.MULTILINE | re.DOTALL
    )
    assert service
    assert "USER 10001:10001" in service[1]
    assert "USER" not in "".join(STAGES.values())


def test_what_the_build_copies_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied
    assert copied <= {each.removeprefix("!") for each in ignored if each.startswith("!")}
    assert all((ROOT / each).exists() for each in copied)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_overlays_name_the_images_of_this_version(overlay):
    images = yaml.safe_load((overlay / "kustomization.yaml").read_text())["images"]
    assert {each["name"].removeprefix("forethought-") for each in images} <= set(STAGES)
    assert {each["newTag"] for each in images} == {__version__}
