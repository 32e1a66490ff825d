"""What stands in for a cluster where there is none: answers kubectl's commands as one would.

It keeps objects and pods in memory, holds what is applied against the schemas, computes what
network policies let through, and leads forwarded ports to deployments of this machine: one with
drafts, one without. Nothing is scheduled, started, killed or probed in it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.deployment.edges import HOME, Peer, gets_through, peer_of
from tests.deployment.manifests import Manifest, labels_of, of_kind, selects
from tests.deployment.validation import validate
from tests.kubernetes import inside

PREFIX = "forethought-"


class StandIn:
    """One cluster.

    Args:
        with_drafts: address of an orchestrator that has a draft tier.
        without: of one that has none.
        folder: for what programs in pods write.
    """

    def __init__(self, with_drafts: str, without: str, folder: Path) -> None:
        self._addresses = {True: with_drafts, False: without}
        self._folder = folder
        self._objects: dict[str, Manifest] = {}
        self._pods: dict[str, list[str]] = {}
        self._numbers = count()
        self._forwards: list[subprocess.Popen[str]] = []
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: list[list[str]] = []
        """All that was asked."""

    @property
    def is_empty(self) -> bool:
        """Whether all that was made is gone."""
        return not self._objects and not any(self._pods.values())

    def close(self) -> None:
        """Ends what runs."""
        for process in (*self._forwards, *self._programs.values()):
            process.kill()
            process.wait()

    def start(self, command: Sequence[str], **streams: Any) -> subprocess.Popen[str]:
        """As kubectl port-forward: to a deployment as it is now."""
        self.commands.append([*command])
        address = self._addresses[bool(self._pods["draft"])]
        program = (
            f"print('Forwarding from {address} -> 50050', flush=True); import time; time.sleep(600)"
        )
        process = subprocess.Popen([sys.executable, "-c", program], **streams)
        self._forwards.append(process)
        return process

    def run(self, command: Sequence[str], text: str, timeout_s: float) -> CompletedProcess[str]:
        """As kubectl."""
        del timeout_s
        self.commands.append([*command])
        arguments = [each for each in command[3:] if not each.startswith("--timeout")]
        names = [each for each in arguments if not each.startswith("--")]
        options = dict(each.partition("=")[::2] for each in arguments if each.startswith("--"))
        said = getattr(self, f"_{names[0]}")(names[1:], options, text)
        answer, code = (said, 0) if isinstance(said, str) else said
        return CompletedProcess(command, code, answer, answer if code else "")

    def _version(self, *_: Any) -> str:
        return "a stand-in for a cluster"

    def _apply(self, _: Any, options: dict[str, str], text: str) -> str:
        assert options["--validate"] == "strict"
        for manifest in yaml.safe_load_all(text):
            validate(manifest)
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            self._objects[f"{kind}/{name}"] = manifest
            if kind == "Deployment":
                self._set_pods(_role(name), manifest["spec"].get("replicas", 1))
            if kind == "Pod":
                self._start_program(name, manifest)
        return "applied"

    def _start_program(self, name: str, pod: Manifest) -> None:
        _, _, program, *arguments = pod["spec"]["containers"][0]["command"]
        if program == inside.LOAD:
            command = [sys.executable, "-c", program, self._addresses[True], *arguments[1:]]
            with (self._folder / name).open("w") as output:
                self._programs[name] = subprocess.Popen(command, stdout=output)

    def _create(self, _: Any, options: dict[str, str], text: str) -> str | tuple[str, int]:
        assert options["--dry-run"] == "server"
        if json.loads(text)["spec"]["securityContext"].get("runAsNonRoot"):
            return "created"
        return "pods is forbidden: violates PodSecurity", 1

    def _get(self, names: list[str], options: dict[str, str], _: str) -> str:
        kind, _, name = names[0].partition("/")
        if kind == "namespace":
            return f"namespace/{names[1]}" if f"Namespace/{names[1]}" in self._objects else ""
        if kind == "priorityclasses":
            return "priorityclass/system-node-critical"
        if kind == "deployment":
            return json.dumps(self._objects[f"Deployment/{name}"])
        if kind == "pod":
            return json.dumps({"status": {"phase": "Succeeded"}})
        if kind == "poddisruptionbudgets":
            return json.dumps(
                {"items": [self._budget(each) for each in self._of("PodDisruptionBudget")]}
            )
        assert kind == "pods"
        role = options["--selector"].rpartition("=")[2]
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        pods = [{"metadata": {"name": each}, "status": status} for each in self._pods[role]]
        return json.dumps({"items": pods})

    def _of(self, kind: str) -> list[Manifest]:
        return of_kind([*self._objects.values()], kind)

    def _budget(self, budget: Manifest) -> Manifest:
        selector = budget["spec"]["selector"]
        counted = [
            len(self._pods[_role(each["metadata"]["name"])])
            for each in self._of("Deployment")
            if selects(selector, labels_of(each))
        ]
        return {"metadata": budget["metadata"], "status": {"expectedPods": sum(counted)}}

    def _rollout(self, names: list[str], *_: Any) -> str:
        role = _role(names[1])
        if names[0] == "restart":
            self._set_pods(role, 0)
            self._set_pods(role, 1)
        return f"{role} successfully rolled out"

    def _scale(self, names: list[str], options: dict[str, str], _: str) -> str:
        role = _role(names[0])
        self._set_pods(role, int(options["--replicas"]))
        if role == "draft":  # a forwarded port ends now and then, as that of a pod that goes
            for process in self._forwards:
                process.kill()
                process.wait()
        return "scaled"

    def _delete(self, names: list[str], *_: Any) -> str:
        kind, _, name = names[0].partition("/")
        if kind == "namespace":
            self._pods.clear()
            self._objects = {
                key: each for key, each in self._objects.items() if each["kind"] == "PriorityClass"
            }
        elif kind == "priorityclass":
            for each in names[1:]:
                del self._objects[f"PriorityClass/{each}"]
        elif f"Pod/{name}" in self._objects:
            del self._objects[f"Pod/{name}"]
            if name in self._programs:
                self._programs[name].kill()
        else:
            role = next(role for role, pods in self._pods.items() if name in pods)
            self._pods[role].remove(name)
            self._set_pods(role, len(self._pods[role]) + 1)
        return "deleted"

    def _auth(self, *_: Any) -> tuple[str, int]:
        return "no", 1

    def _exec(self, names: list[str], *_: Any) -> str:
        done = subprocess.run(
            [sys.executable, *names[names.index("python") + 1 :], names[-1]][:3],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def _logs(self, names: list[str], *_: Any) -> str:
        name = names[0].partition("/")[2]
        if name in self._programs:
            return (self._folder / name).read_text().rpartition("\n")[0]
        pod = self._objects[f"Pod/{name}"]
        places = pod["spec"]["containers"][0]["command"][3:]
        caller = Peer(name, HOME, pod["metadata"]["labels"])
        return "\n".join(f"{each} {self._state(caller, each)}" for each in places)

    def _state(self, caller: Peer, place: str) -> str:
        host, _, port = place.partition(":")
        service = self._objects[f"Service/{host}"]["spec"]["selector"]
        called = next(
            each
            for each in self._of("Deployment")
            if selects({"matchLabels": service}, labels_of(each))
        )
        everything = [*self._objects.values()]
        is_open = gets_through(everything, caller, peer_of(called), f"{port}/TCP")
        return "open" if is_open else "closed"

    def _set_pods(self, role: str, number: int) -> None:
        pods = self._pods.setdefault(role, [])
        del pods[number:]
        while len(pods) < number:
            pods.append(f"{PREFIX}{role}-{next(self._numbers)}")


def _role(name: str) -> str:
    return name.rpartition("/")[2].removeprefix(PREFIX)
