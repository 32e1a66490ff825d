"""A Kubernetes API server that knows two Deployments' scales and Leases.

kmock serves it; what is written must have been read: another resource version is a conflict.
"""

from copy import deepcopy
from typing import Any

import kmock

NAMESPACE = "speculation"
TARGET, DRAFT, LEASE = "forethought-target", "forethought-draft", "forethought-autoscaler"
_SCALE = "/apis/apps/v1/namespaces/speculation/deployments/{}/scale"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/speculation/leases"


class Cluster:
    """What the API server holds.

    Args:
        server: of the test.
    """

    def __init__(self, server: kmock.RawHandler) -> None:
        self.url = str(server.url)
        self.objects: dict[str, dict[str, Any]] = {}
        self.refuses = 0
        """The HTTP status of every answer; 0: all goes well."""
        self.writes: list[dict[str, Any]] = []
        self.num_conflicts = 0
        self.meanwhile: list[tuple[str, int]] = []
        """Deployments that somebody else scales, each between two of our calls."""
        for name in (TARGET, DRAFT):
            path = _SCALE.format(name)
            self.objects[path] = {
                "apiVersion": "autoscaling/v1",
                "kind": "Scale",
                "metadata": {"name": name, "namespace": NAMESPACE, "resourceVersion": "1"},
                "spec": {"replicas": 1},
                "status": {"replicas": 1},
            }
            server[f"get {path}"] << self._read
            server[f"patch {path}"] << self._write
        lease = f"{_LEASES}/{LEASE}"
        server[f"get {lease}"] << self._read
        server[f"put {lease}"] << self._write
        server[f"post {_LEASES}"] << self._create

    def replicas(self, name: str) -> int:
        """Of a Deployment."""
        return self.objects[_SCALE.format(name)]["spec"]["replicas"]

    def scale(self, name: str, replicas: int) -> None:
        """Somebody else does."""
        scale = self.objects[_SCALE.format(name)]
        scale["spec"]["replicas"] = replicas
        _touch(scale)

    def _read(self, request: kmock.Request) -> dict[str, Any]:
        self._refuse()
        found = deepcopy(self._find(request.url.path))
        if "scale" in request.url.path and self.meanwhile:
            self.scale(*self.meanwhile.pop(0))
        return found

    def _write(self, request: kmock.Request) -> dict[str, Any]:
        self._refuse()
        found, wanted = self._find(request.url.path), request.data
        if wanted["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            self.num_conflicts += 1
            raise kmock.KubernetesError(409, "Conflict", "the object has been modified")
        found["spec"] = found["spec"] | wanted["spec"]
        _touch(found)
        self.writes.append(wanted)
        return found

    def _create(self, request: kmock.Request) -> dict[str, Any]:
        self._refuse()
        path = f"{_LEASES}/{request.data['metadata']['name']}"
        if path in self.objects:
            raise kmock.KubernetesError(409, "AlreadyExists", "there is such a Lease")
        made = self.objects[path] = deepcopy(request.data)
        made["metadata"] |= {"namespace": NAMESPACE, "resourceVersion": "1"}
        return made

    def _find(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise kmock.KubernetesError(404, "NotFound", f"there is no {path}")
        return self.objects[path]

    def _refuse(self) -> None:
        if self.refuses:
            reason = {403: "Forbidden", 410: "Gone"}.get(self.refuses, "Refused")
            raise kmock.KubernetesError(self.refuses, reason, "a test wants it")


def _touch(thing: dict[str, Any]) -> None:
    thing["metadata"]["resourceVersion"] = str(int(thing["metadata"]["resourceVersion"]) + 1)
