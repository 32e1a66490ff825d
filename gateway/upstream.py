"""The service behind the gateway: a client of it, and what it says that it serves."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from forethought.client import GenerationClient, calling_with_key
from forethought.errors import ForethoughtError, LoadingError, UnauthenticatedError
from forethought.generation import DeploymentInfo
from gateway.web.errors import HttpError

_ASK_S = 5.0
"""For an answer, and between two questions while all is well."""
_RETRY_S = 0.5


@dataclass
class Upstream:
    """Orchestrators, as one."""

    client: GenerationClient
    """Has no key: what it is asked for by a request shows that request's."""
    names: tuple[str, ...] = ()
    """By which the model is called; empty: by its own."""
    api_key: str = field(default="", repr=False)
    """The gateway's own, to ask what is served; empty: orchestrators want none of anybody."""
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
            with calling_with_key(self.api_key):
                self.info = await self.client.describe(timeout_s=_ASK_S)
        except UnauthenticatedError as error:
            self.problem = f"of the gateway's own API key: {error.message}"
            return False
        except ForethoughtError as error:
            self.problem = error.message
            return False
        self.problem = ""
        return True

    @property
    def why_not_ready(self) -> str:
        """Empty while requests can be served."""
        return "the gateway is shutting down" if self.stopping.is_set() else self.problem

    @property
    def has_keys(self) -> bool:
        """Whether orchestrators want to see API keys."""
        return bool(self.api_key)

    async def described_to_caller(self) -> DeploymentInfo:
        """What is served, if the key of the request at hand may know.

        Raises:
            ForethoughtError: it may not, or nobody knows.
        """
        if self.has_keys:
            return await self.client.describe(timeout_s=_ASK_S)
        return await self.described()

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
            ForethoughtError: what is served is not known, or not to be told to the caller.
        """
        names = self.names or ((await self.described()).target.name,)
        if wanted is None or wanted in names:
            return wanted or names[0]
        await self.described_to_caller()
        raise HttpError(
            404,
            f"model: {wanted!r} is not served here, but {' and '.join(map(repr, names))}",
            param="model",
            code="model_not_found",
        )
