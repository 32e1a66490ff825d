"""The cluster that this process runs in. Only here and in `leader.py` and `deployments.py` is
Kubernetes' client known, and it is loaded when it is needed: an extra, of 126 MB."""

from pathlib import Path
from typing import Any

from forethought.errors import ClusterError

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def open_api_client() -> Any:
    """A client of the API server, with the token of the pod's service account.

    Raises:
        ClusterError: there is no cluster, or no token.
    """
    from kubernetes.aio import client, config  # noqa: PLC0415

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException as error:
        raise ClusterError(
            f"Deployments can only be scaled from a pod that has a service account's token: {error}"
        ) from error
    return client.ApiClient(configuration)


def own_namespace() -> str:
    """The namespace of the pod.

    Raises:
        ClusterError: it is not known.
    """
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError as error:
        raise ClusterError(
            f"the namespace is not known, since {_NAMESPACE_FILE} cannot be read: give --namespace"
        ) from error
