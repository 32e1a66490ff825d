"""The service behind the gateway: a client of it, and what it says that it serves."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from forethought.client import GenerationClient
from forethought.errors import ForethoughtError, LoadingError
from forethought.generation import DeploymentInfo
from gateway.web.errors import HttpError

_ASK_S = 5.0
"""For an answer, and between two questions while all is well."""
_RETRY_S = 0.5


@dataclass
class Upstream:
    """Orchestrators, as one."""

    client: GenerationClient
    names: tuple[str, ...] = ()
    """By which the model is called; empty: by its own."""
    info: DeploymentInfo | None = None
    """What is served, as last heard."""
    problem: str = "no orchestrator has answered yet"
    """Why nothing can be served now; empty where it can."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway is to end."""

    async def watch(self) -> None:
        """Asks what is served, for as long as it runs."""
        while not self.stopping.is_set():
            is_well = await self.ask()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_S if is_well else _RETRY_S):
                    await self.stopping.wait()

    async def ask(self) -> bool:
        """Asks once. Returns whether there was an answer."""
        try:
            self.info = await self.client.describe(timeout_s=_ASK_S)
        except ForethoughtError as error:
            self.problem = error.message
            return False
        self.problem = ""
        return True

    @property
    def why_not_ready(self) -> str:
        """Empty while requests can be served."""
        return "the gateway is shutting down" if self.stopping.is_set() else self.problem

    async def described(self) -> DeploymentInfo:
        """What is served. Raises LoadingError where nobody knows."""
        if self.info is None and not await self.ask():
            raise LoadingError(self.problem)
        assert self.info is not None
        return self.info

    async def name_of(self, wanted: str | None) -> str:
        """How answers call the model.

        Raises:
            HttpError: another model is asked for.
            LoadingError: what is served is not known.
        """
        names = self.names or ((await self.described()).target.name,)
        if wanted is None or wanted in names:
            return wanted or names[0]
        raise HttpError(
            404,
            f"model: {wanted!r} is not served here, but {' and '.join(map(repr, names))}",
            param="model",
            code="model_not_found",
        )
