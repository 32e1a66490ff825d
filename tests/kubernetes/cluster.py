"""A namespace of a cluster, as its user has it: by kubectl, and with nothing left behind."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.deployment.manifests import ROOT, Manifest, kubectl, render
from tests.kubernetes.forward import Forward

ROLES = ("orchestrator", "gateway", "target", "draft", "weights")
OVERLAY = ROOT / "k8s/overlays/demo"


@dataclass(frozen=True)
class Options:
    """What whoever runs this may choose, each by a variable of the same name in capitals."""

    kubeconfig: str
    """File of the cluster; there is no default, so that none is touched by mistake."""
    images: str = "forethought-"
    """What stands before the role in an image's name, such as `registry.example/forethought-`."""
    tag: str = ""
    """Of the images; empty is that of the overlay."""
    namespace: str = "forethought-test"
    """Made for the run, and deleted after it; it must not be there yet."""
    timeout_s: float = 600
    """For each wait."""
    keep: bool = False
    """Whether the namespace stays, to be looked at."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> "Options":
        """Raises ValueError where no cluster is named."""
        if not variables.get("KUBECONFIG"):
            raise ValueError("name a cluster: make test-kubernetes KUBECONFIG=FILE")
        return cls(
            variables["KUBECONFIG"],
            variables.get("IMAGES") or cls.images,
            variables.get("TAG") or cls.tag,
            variables.get("NAMESPACE") or cls.namespace,
            float(variables.get("TIMEOUT_S") or cls.timeout_s),
            bool(variables.get("KEEP")),
        )


class KubectlError(Exception):
    """A command failed; the message is what it said."""


Runner = Callable[[Sequence[str], str, float], "subprocess.CompletedProcess[str]"]
"""Runs a command with a text as its input, for some seconds at most."""


def run_command(command: Sequence[str], text: str, timeout_s: float) -> Any:
    """A `Runner`."""
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
    )


class Cluster:
    """One namespace, and what is asked of it.

    Args:
        options: of the run.
        runner: of commands; tests have one of their own.
        start: starts a command that goes on, likewise.
        poll_s: between two looks at what is waited for.
    """

    def __init__(
        self,
        options: Options,
        runner: Runner = run_command,
        start: Callable[..., Any] = subprocess.Popen,
        poll_s: float = 1.0,
    ) -> None:
        self.options = options
        self._poll_s = poll_s
        self._runner = runner
        self._start = start

    @property
    def timeout(self) -> str:
        """As a value of kubectl's `--timeout`."""
        return f"--timeout={self.options.timeout_s:.0f}s"

    def command(self, *arguments: str) -> list[str]:
        """With the cluster and the namespace."""
        where = f"--kubeconfig={self.options.kubeconfig}", f"--namespace={self.options.namespace}"
        return [kubectl(), *where, *arguments]

    def run(self, *arguments: str, text: str = "") -> str:
        """What kubectl answers.

        Raises:
            KubectlError: it failed.
        """
        done = self._done(arguments, text)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return str(done.stdout)

    def _done(self, arguments: Sequence[str], text: str = "") -> Any:
        try:
            return self._runner(self.command(*arguments), text, self.options.timeout_s + 30)
        except subprocess.TimeoutExpired as error:
            raise KubectlError(f"kubectl {' '.join(arguments)} does not end") from error

    def may(self, role: str, verb: str, resource: str) -> bool:
        """Whether the processes of a tier may ask the API server for something.

        Raises:
            KubectlError: whoever runs this may not ask that.
        """
        account = f"--as=system:serviceaccount:{self.options.namespace}:forethought-{role}"
        done = self._done(("auth", "can-i", verb, resource, account))
        if done.stdout.strip() not in ("yes", "no"):
            raise KubectlError(f"kubectl auth can-i {verb} {resource}: {done.stderr.strip()}")
        return bool(done.stdout.strip() == "yes")

    def get(self, *arguments: str) -> Any:
        """Objects, as values."""
        return json.loads(self.run("get", *arguments, "--output=json"))

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Makes or changes objects; a field that the cluster does not know is an error."""
        self.run("apply", "--validate=strict", "--filename=-", text=yaml.safe_dump_all(manifests))

    def render_demo(self) -> tuple[Manifest, ...]:
        """The overlay `demo` in this namespace, with the images of the options."""
        with TemporaryDirectory() as folder:
            images = [self._image(role) for role in ROLES]
            kustomization = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": self.options.namespace,
                "resources": [os.path.relpath(OVERLAY, Path(folder).resolve())],
                "images": images,
            }
            Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
            return render(Path(folder).resolve())

    def _image(self, role: str) -> dict[str, str]:
        image = {"name": f"forethought-{role}", "newName": f"{self.options.images}{role}"}
        return {**image, "newTag": self.options.tag} if self.options.tag else image

    def pods(self, role: str) -> list[Manifest]:
        """Of a tier, those that are ending too."""
        selector = f"--selector=app.kubernetes.io/component={role}"
        pods: list[Manifest] = self.get("pods", selector)["items"]
        return pods

    def wait_for_pods(self, role: str, number: int) -> None:
        """Until a tier has so many pods, all of them ready and none on its way out."""

        def are_there() -> bool:
            pods = self.pods(role)
            return len(pods) == number and all(map(_is_ready, pods))

        self.wait_until(are_there, f"{number} ready pods of {role}")

    def wait_for_rollouts(self, *roles: str) -> None:
        """Until each tier is as its Deployment wants it.

        Raises:
            KubectlError: one is not, in time; the message says what its pods say.
        """
        for role in roles:
            try:
                self.run("rollout", "status", f"deployment/forethought-{role}", self.timeout)
            except KubectlError as error:
                raise KubectlError(f"{error}\n{self.describe(role)}") from error

    def scale(self, role: str, replicas: int) -> None:
        """To a number of replicas, and waits for them."""
        self.run("scale", f"deployment/forethought-{role}", f"--replicas={replicas}")
        self.wait_for_rollouts(role)
        self.wait_for_pods(role, replicas)

    def describe(self, role: str) -> str:
        """What is to be known of a tier that does not come up."""
        selector = f"--selector=app.kubernetes.io/component={role}"
        texts = []
        for arguments in (
            ("describe", "pods", selector),
            ("logs", selector, "--all-containers", "--prefix", "--tail=30"),
        ):
            try:
                texts.append(self.run(*arguments))
            except KubectlError as error:
                texts.append(str(error))
        return "\n".join(texts)

    def forward(self, resource: str, port: int) -> Forward:
        """A port on this machine that leads to a pod's or a Service's, kept up until it is
        closed."""
        return Forward(self.command("port-forward", resource, f":{port}"), self._start)

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        """Asks again and again.

        Raises:
            KubectlError: it does not come true in time.
        """
        deadline = time.monotonic() + self.options.timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise KubectlError(f"not within {self.options.timeout_s:.0f} s: {what}")
            time.sleep(self._poll_s)

    @contextmanager
    def namespace(self) -> Iterator[None]:
        """Makes it, and deletes it with all that is in it, also after a failure. Priority classes
        belong to the whole cluster: those that were made here are deleted, too."""
        name = self.options.namespace
        if self.run("get", "namespace", name, "--ignore-not-found", "--output=name").strip():
            raise KubectlError(f"namespace {name} is there already: choose another NAMESPACE")
        classes = [
            each["metadata"]["name"]
            for each in self.render_demo()
            if each["kind"] == "PriorityClass"
        ]
        before = self.run("get", "priorityclasses", "--output=name")
        added = [each for each in classes if f"/{each}\n" not in f"{before}\n"]
        try:
            yield
        finally:
            if not self.options.keep:
                self.run("delete", "namespace", name, "--ignore-not-found", self.timeout)
                if added:
                    self.run("delete", "priorityclass", *added, "--ignore-not-found")


def _is_ready(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions", [])
    is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]
