"""Scales Deployments by the `scale` subresource, where no KEDA does it."""

from collections.abc import Mapping
from typing import Any

import structlog

from autoscaler.decider import Decision, Tier

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0
_ATTEMPTS = 3
"""To write what somebody else has changed in between."""


class Deployments:
    """The Deployments of the tiers that are scaled.

    Args:
        api_client: of Kubernetes.
        namespace: of the Deployments.
        names: of each tier.
    """

    def __init__(self, api_client: Any, namespace: str, names: Mapping[Tier, str]) -> None:
        from kubernetes.aio.client import AppsV1Api  # noqa: PLC0415 - an extra

        self._api = AppsV1Api(api_client)
        self._namespace = namespace
        self._names = names
        self.problems: dict[str, str] = {}
        """Why a Deployment could not be scaled the last time, by its name."""

    async def scale(self, decisions: Mapping[Tier, Decision]) -> None:
        """Has each tier have the replicas that were decided. What fails is tried the next time."""
        for tier, name in self._names.items():
            if tier in decisions:
                self._note(name, await self._attempt(name, decisions[tier]))

    async def _attempt(self, name: str, decision: Decision) -> str:
        """Why it failed; empty where it did not."""
        from aiohttp import ClientError  # noqa: PLC0415 - comes with the client
        from kubernetes.aio.client import ApiException  # noqa: PLC0415

        why = ""
        try:
            for _ in range(_ATTEMPTS):
                try:
                    await self._write(name, decision)
                except ApiException as error:
                    why = _describe(error)
                    if error.status != 409:
                        return why
                else:
                    return ""
        except (ClientError, TimeoutError, OSError) as error:
            why = f"the API server is away: {str(error) or type(error).__name__}"
        return why

    async def _write(self, name: str, decision: Decision) -> None:
        seen = await self._api.read_namespaced_deployment_scale(
            name, self._namespace, _request_timeout=_TIMEOUT_S
        )
        before, wanted = seen.spec.replicas or 0, decision.replicas
        if wanted == before or (wanted < before and not decision.is_settled):
            return
        # With the version that was seen: what somebody else has written since is read first.
        body = {
            "metadata": {"resourceVersion": seen.metadata.resource_version},
            "spec": {"replicas": wanted},
        }
        await self._api.patch_namespaced_deployment_scale(
            name,
            self._namespace,
            body,
            _content_type="application/merge-patch+json",
            _request_timeout=_TIMEOUT_S,
        )
        _log.info(
            "scaled",
            deployment=name,
            replicas=wanted,
            before=before,
            needed=round(decision.need.replicas, 2),
            signal=decision.need.signal,
        )

    def _note(self, name: str, why: str) -> None:
        if why != self.problems.get(name, ""):
            _log.warning("not_scaled" if why else "scales_again", deployment=name, why=why)
        self.problems[name] = why


def _describe(error: Any) -> str:
    if error.status == 403:
        return f"RBAC must allow get and patch of deployments/scale: {error.reason}"
    return f"the API server says {error.status}: {error.reason}"
