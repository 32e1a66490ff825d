"""A whole deployment of processes, with several of each tier, which a storm may break."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from forethought.rpc.connections.channels import open_channel
from forethought.tier import TierLoad
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub
from tests.lifecycle.processes import TierProcess
from tests.ports import free_port
from tests.store.proxy import Network, proxied
from tests.store.servers import ValkeyServer
from tests.waiting import NOTHING_HELD, draft_load, target_load, until

START_S = 120


@dataclass(frozen=True)
class Size:
    """How many processes there are of each tier."""

    num_targets: int = 2
    num_drafts: int = 2
    num_orchestrators: int = 2
    has_store: bool = True
    """Without one, sessions end with their orchestrator."""


class Store(ValkeyServer):
    """A server with a stretch of network before it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.front_port = free_port()

    @property
    def front_url(self) -> str:
        """What everybody uses who is not to meddle."""
        return f"redis://127.0.0.1:{self.front_port}"


class ChaosDeployment:
    """Targets, drafts, and orchestrators that know all of them and look nothing up.

    Args:
        model: of targets and drafts, with the orchestrators' tokenizer.
        logs: folder for what the processes say.
        size: how many there are.
        words: further ones on the command lines, by package.
    """

    def __init__(
        self,
        model: Path,
        logs: Path,
        size: Size,
        words: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        common = ["--model", str(model), "--log-format", "json", "--drain-grace-s", "2"]
        common += ["--admin-listen", ""]  # its default port may be another deployment's
        engine = ["--dtype", "float32", "--device", "cpu", "--num-threads", "1"]

        def processes(package: str, number: int, flags: Sequence[str]) -> list[TierProcess]:
            return [
                TierProcess(
                    package,
                    [*common, *flags, *(words or {}).get(package, ())],
                    logs / f"{package}-{index}.log",
                )
                for index in range(number)
            ]

        self.targets = processes("target_service", size.num_targets, engine)
        self.drafts = processes("draft_service", size.num_drafts, engine)
        wiring = [
            *("--target", ",".join(self.addresses(self.targets))),
            *("--draft", ",".join(self.addresses(self.drafts))),
            *("--num-speculative-tokens", "3", "--draft-timeout-s", "1", "--lookup", ""),
        ]
        self.store = Store() if size.has_store else None
        if self.store is not None:
            wiring += ["--redis-url", self.store.front_url]
        self.orchestrators = processes("orchestrator", size.num_orchestrators, wiring)

    @staticmethod
    def addresses(tier: Sequence[TierProcess]) -> list[str]:
        """Where the processes of a tier are."""
        return [process.address for process in tier]

    @property
    def tiers(self) -> dict[str, list[TierProcess]]:
        """All processes, by what they are."""
        return {"target": self.targets, "draft": self.drafts, "orchestrator": self.orchestrators}

    @property
    def all(self) -> list[TierProcess]:
        """All processes."""
        return [process for tier in self.tiers.values() for process in tier]

    async def until_serving(self) -> None:
        """Returns when every process takes calls."""
        for process in self.all:
            await until(lambda process=process: is_serving(process), START_S)

    async def until_nothing_is_held(self) -> None:
        """Returns when no tier holds a session or a token of one, asked over the wire."""
        for process in (*self.targets, *self.drafts):
            load = self._load_of_target if process in self.targets else self._load_of_draft

            async def is_free(process=process, load=load) -> bool:
                return await load(process.address) == NOTHING_HELD

            await until(is_free, START_S)

    @staticmethod
    async def _load_of_target(address: str) -> TierLoad:
        async with open_channel(address) as channel:
            return await target_load(TargetServiceStub(channel))

    @staticmethod
    async def _load_of_draft(address: str) -> TierLoad:
        async with open_channel(address) as channel:
            return await draft_load(DraftServiceStub(channel))


@asynccontextmanager
async def started(deployment: ChaosDeployment) -> AsyncGenerator[ChaosDeployment]:
    """Its processes, started; killed in the end, paused ones too."""
    store = deployment.store
    async with AsyncExitStack() as cleanup:
        if store is not None:
            cleanup.callback(store.kill)
            store.start()
            front = proxied(store.port, network=store.network, listen_port=store.front_port)
            await cleanup.enter_async_context(front)
        for process in deployment.all:
            cleanup.callback(process.kill)
            process.start()
        yield deployment


async def is_serving(process: TierProcess) -> bool:
    """Whether a process says that it takes calls."""
    async with open_channel(process.address) as channel:
        try:
            answer = await HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            # A process that is being started refuses connections by the thousand.
            await asyncio.sleep(0.05)
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
